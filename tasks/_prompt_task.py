"""The shared code of the tasks on prompts: model and fine-tuning parameters, gradients, evaluation."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import RequestError
from harness.interfaces.params import at_least, option, shares
from harness.interfaces.task import Samples, Split, Task
from tasks import _prompt_files as files
from tasks import _prompt_sets
from tasks._prompt_sets import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from tasks._adapters import Adapters
    from tasks._language_models import LanguageModel
    from tasks._text_training import Recipe

TINY = "tiny"


@dataclass(frozen=True)
class FineTuned:
    """A model's adapters, what it can do before and after fine-tuning, and its loss on answers after every epoch."""

    state: dict[str, Tensor]
    metrics: dict[str, float]
    losses: list[float]


@dataclass(frozen=True)
class PromptTask(Task):
    """Base of the tasks on prompts; the defaults are the published recipe.

    Args:
        prompts: ``generated`` by the paper's description, or read from ``files`` in the data folder.
        per_class, test_per_class: number of training and test prompts per class. From files, the first prompts of
            each class are taken, or all if there are fewer.
        model: a Hugging Face hub name or a local folder of a causal language model, or ``tiny``: three layers and a
            byte-level tokenizer, both made on the spot, first trained on other prompts of the task's kind.
        weights: the number type of the model's frozen weights; ``int8`` needs a CUDA device and bitsandbytes.
        rank, alpha, dropout: settings of the LoRA adapters.
        target: the adapted modules, by the last part of their names, joined by ``+``. ``none`` finds the attention's
            query and value modules.
        epochs, batch_size, lr, warmup, weight_decay: settings of AdamW. The learning rate rises during the share
            ``warmup`` of the steps, then falls to 0.
        max_tokens: largest number of tokens per sample; longer samples are cut.
        gradient_text: the tokens whose loss gradients are computed: of the ``prompt`` alone (as published), of the
            ``answer``, or of the whole ``text``.
        padding: whether the loss whose gradients are computed counts the end tokens that pad every text to the longest
            of its set, as in the reference code.
        pretraining: number of epochs that ``tiny`` is first trained, on ``pretraining_per_class`` prompts per class.
        precision: float32, or bfloat16 autocast, in training and testing. ``auto`` is bfloat16 on a CUDA device that
            supports bfloat16, else float32. Gradients are always computed without autocast.
    """

    file_name: ClassVar[str]
    source: ClassVar[str] = (
        "Kwon et al., ICLR 2024, section 4.3; Chhabra et al., ICML 2025, section 7, Table 3, Figure 4"
    )
    attributes: ClassVar[bool] = True
    method_params: ClassVar[Mapping[str, Any]] = {"reference": "test", "sign": 1}
    most_retrainings: ClassVar[int] = 0
    of_outputs: ClassVar[frozenset[str]] = frozenset({"gradient_text", "padding"})
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"padding": True}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "model": TINY,
            "weights": "float32",
            "per_class": 20,
            "test_per_class": 4,
            "epochs": 5,
            "batch_size": 16,
            "lr": 3e-3,
            "pretraining_per_class": 60,
        },
        "fast": {"model": "HuggingFaceTB/SmolLM2-135M", "weights": "float32", "epochs": 5, "lr": 1e-3},
    }

    budget: float = 0.0
    prompts: Literal["generated", "files"] = "generated"
    per_class: int = 90
    test_per_class: int = 10
    model: str = "meta-llama/Llama-2-13b-chat-hf"
    weights: Literal["float32", "bfloat16", "int8"] = "int8"
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.05
    target: str | None = None
    epochs: int = 25
    batch_size: int = 32
    lr: float = 3e-4
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_tokens: int = 256
    gradient_text: Literal["prompt", "answer", "text"] = "prompt"
    pretraining: int = 8
    pretraining_per_class: int = 200
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    padding: bool = option(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, per_class=1, test_per_class=1, rank=1, epochs=1, batch_size=1, pretraining_per_class=1, lr=0)
        shares(self, "dropout", "warmup")

    def generated(self, per_class: int, seed: int) -> list[Prompt]:
        """So many prompts of each class, class after class."""
        raise NotImplementedError

    def others(self, per_class: int, seed: int) -> list[Prompt]:
        """Prompts of the task's kind that ``tiny`` is first trained on."""
        return self.generated(per_class, seed)

    def essence(self, prompt: Prompt) -> object:
        """The key that must differ between training or test prompts and the prompts of `others`."""
        return prompt.prompt

    def check(self) -> None:
        from tasks._adapters import require_libraries
        from tasks._language_models import check_language_model

        require_libraries()
        train, test = self._sets(0)
        unknown = {prompt.kind for prompt in test} - {prompt.kind for prompt in train}
        if unknown:
            raise RequestError(f"no training prompt is of the test prompts' class {sorted(unknown)[0]!r}")
        if self.model == TINY:
            self._others(0, set())
        else:
            check_language_model(self.model, self.weights, self._adapters())

    def data_version(self) -> str:
        from tasks._adapters import folder_digest

        model = "" if self.model == TINY else folder_digest(self.model)
        if self.prompts == "generated":  # by code, which results remember as they do files
            code = Path(str(_prompt_sets.__file__)).read_bytes()
            return hashlib.sha256(code).hexdigest()[:16] + model
        digest = files.digest(self.file_name)
        return digest and digest + model

    def load(self, seed: int) -> tuple[Split, None]:
        import torch

        from tasks._language_training import prompt_tokens

        train, test = self._sets(seed)
        known = {self.essence(prompt) for prompt in (*train, *test)}
        model = self._tiny(seed, known) if self.model == TINY else self._pretrained()
        kinds = self.class_names()

        def samples(prompts: Sequence[Prompt]) -> Samples:
            tokens = prompt_tokens(model, prompts, self.max_tokens)
            classes = np.array([kinds.index(prompt.kind) for prompt in prompts], dtype=np.int64)
            return Samples(tokens, torch.zeros(len(prompts), dtype=torch.int64), classes=classes)

        tested = samples(test)
        return Split(samples(train), tested, {"test": tested}, len(kinds)), None

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> FineTuned:
        return self._trained(split, keep, seed, None)

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> FineTuned:
        return self._trained(split, None, seed, recorder)

    def _trained(self, split: Split, keep: np.ndarray | None, seed: int, recorder: Recorder | None) -> FineTuned:
        import torch

        from tasks._language_training import answers, token_losses
        from tasks._text_training import fit

        train, test, recipe = split.train.inputs, split.test.inputs, self._recipe()
        model = train.text.adapted
        model.reset(seed)

        def able() -> dict[str, float]:
            return answers(test.text, test.answers, recipe)

        before, losses = able(), []

        def after_epoch() -> None:
            losses.append(able())
            if recorder is not None:
                recorder.moment(FineTuned(model.state(), losses[-1], []))

        if recorder is not None:
            recorder.start(recipe.masses(len(split.train)), logits=False)
        kept = None if keep is None else torch.from_numpy(np.flatnonzero(keep))
        fit(train.text, train.targets, recipe, seed, after_epoch, kept, token_losses)
        metrics = {**losses[-1], **{f"{name}_before": value for name, value in before.items()}}
        return FineTuned(model.state(), metrics, [epoch["loss"] for epoch in losses])

    def outputs(self, model: FineTuned, samples: Samples) -> Outputs:
        from harness.interfaces.outputs import Outputs
        from tasks._language_training import token_losses
        from tasks._text_training import adapter_gradients

        def gradients(last: bool) -> dict[str, Tensor]:
            tokens, targets = samples.inputs.shown(self.gradient_text, self.padding)
            adapted: LanguageModel = tokens.adapted
            adapted.load(model.state)
            names = adapted.last_layer if last else None
            return adapter_gradients(tokens, targets, names, token_losses)

        every, last = (functools.partial(gradients, flag) for flag in (False, True))
        return Outputs(samples.labels, blocks=every, last=last)

    def evaluate(self, model: FineTuned, split: Split) -> dict[str, float]:
        return dict(model.metrics)

    def curves(self, model: FineTuned, split: Split) -> Mapping[str, Sequence[float]]:
        return {"loss_by_epoch": model.losses}

    def class_names(self) -> list[str]:
        """In the order of the sets, which is the same for every seed."""
        return list(dict.fromkeys(prompt.kind for prompt in self._sets(0)[0]))

    def texts(self, seed: int) -> Mapping[str, list[str]]:
        train, test = ([f"{prompt.prompt}{prompt.answer}" for prompt in prompts] for prompts in self._sets(seed))
        return {"train": train, "test": test}

    def _sets(self, seed: int) -> tuple[list[Prompt], list[Prompt]]:
        """Training and test prompts. Of generated ones none is in both; files are taken as they are."""
        if self.prompts == "files":
            train, test = (files.read_set(self.file_name, split) for split in ("train", "test"))
            return _first(train, self.per_class), _first(test, self.test_per_class)
        try:
            made = self.generated(self.per_class + self.test_per_class, seed)
        except ValueError as error:
            raise RequestError(f"{self.name}: {error}") from error
        train = _first(made, self.per_class)
        known = {prompt.prompt for prompt in train}
        return train, [prompt for prompt in made if prompt.prompt not in known]

    def _adapters(self) -> Adapters:
        from tasks._adapters import Adapters

        return Adapters(self.rank, self.alpha, self.dropout, self.target)

    def _pretrained(self) -> LanguageModel:
        from tasks._language_models import language_model

        return language_model(self.model, self.weights, self._adapters(), "cuda:0" if self.weights == "int8" else "cpu")

    def _tiny(self, seed: int, known: set[object]) -> LanguageModel:
        return _tiny(self._others(seed, known), self.pretraining, self._adapters(), seed)

    def _others(self, seed: int, known: set[object]) -> tuple[Prompt, ...]:
        try:
            made = self.others(self.pretraining_per_class, seed + 1)
        except ValueError as error:
            raise RequestError(f"{self.name}[pretraining_per_class={self.pretraining_per_class}]: {error}") from error
        return tuple(prompt for prompt in made if self.essence(prompt) not in known)

    def _recipe(self) -> Recipe:
        from tasks._text_training import Recipe

        return Recipe(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay, self.precision)


@functools.lru_cache(maxsize=4)
def _tiny(prompts: tuple[Prompt, ...], epochs: int, adapters: Adapters, seed: int) -> LanguageModel:
    from tasks._language_models import tiny_language_model

    return tiny_language_model(prompts, epochs, adapters, seed)


def _first(prompts: Sequence[Prompt], per_class: int) -> list[Prompt]:
    """So many of each class, in order."""
    seen: dict[str, int] = {}
    first = []
    for prompt in prompts:
        seen[prompt.kind] = seen.get(prompt.kind, 0) + 1
        if seen[prompt.kind] <= per_class:
            first.append(prompt)
    return first
