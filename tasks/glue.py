"""GLUE with flipped labels: choosing training data for LoRA fine-tuning."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.data.files import VARIABLE
from harness.errors import RequestError
from harness.interfaces.params import at_least, option, shares
from harness.interfaces.task import Samples, Split, Task
from harness.selection.registry import register_task
from tasks import _glue_files as files

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from tasks._adapters import Adapters
    from tasks._encoders import Encoder
    from tasks._text_training import Recipe

TINY = "tiny"
FURTHER = 4000
"""Rows that the tiny encoder is first trained on, at most."""
SENTENCE_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class TrainedAdapters:
    """The parts that differ between fine-tuned models (adapters and head), and the accuracy after every epoch."""

    state: dict[str, Tensor]
    history: list[float]


@dataclass(frozen=True)
class GlueTask(Task):
    """Base of the GLUE tasks; the defaults are the published recipe.

    Args:
        model: a Hugging Face hub name or a local folder of a RoBERTa- or BERT-like encoder, or ``tiny``: two layers
            and a tokenizer, both made on the spot, first trained on up to 4,000 rows that are left over.
        n_train: number of training rows drawn, or all rows if there are fewer.
        n_dev: number of rows of the official development set to measure accuracy on, or all rows if there are fewer.
        n_validation: number of clean reference rows, drawn from the training file in addition to the training rows.
        flip: share of the training labels that are changed to the other class.
        epochs, batch_size, lr, warmup, weight_decay: settings of AdamW. The learning rate rises during the share
            ``warmup`` of the steps, then falls to 0.
        rank, alpha, dropout: settings of the LoRA adapters.
        target: the adapted modules, by the last part of their names. ``none`` finds the attention's value modules.
        max_tokens: largest number of tokens per sample; longer samples are cut.
        precision: float32, or bfloat16 autocast, in training and testing; ``auto`` is bfloat16 on a CUDA device that
            supports bfloat16, else float32. The values that methods see are always computed in float32.
        report: accuracy of the ``last_epoch``, or the best over all epochs.
        record: the logits that training dynamics record. ``pass`` records logits during training, with dropout.
            ``epoch`` records logits after each epoch, in eval mode.
    """

    data: ClassVar[files.Source]
    source: ClassVar[str] = "Wang et al., ICLR 2019; Chhabra et al., ICML 2025, section 5, Figure 3"
    needs: ClassVar[str] = (
        f"the task's TSV files in a folder named by --data-dir or {VARIABLE}, or `datasets` and a network"
    )
    after_training: ClassVar[frozenset[str]] = Task.after_training | {"report"}
    most_retrainings: ClassVar[int] = 10
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"n_validation": 0}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"model": "tiny", "n_train": 400, "n_dev": 200, "n_validation": 100, "epochs": 4, "lr": 3e-3},
        "fast": {"model": SENTENCE_ENCODER, "n_train": 2000, "epochs": 5, "lr": 3e-3},
    }

    budget: float = 0.3
    model: str = "roberta-large"
    n_train: int = 4500
    n_dev: int = 500
    n_validation: int = 250
    flip: float = 0.2
    epochs: int = 10
    batch_size: int = 32
    lr: float = 3e-4
    warmup: float = 0.06
    weight_decay: float = 0.01
    rank: int = 4
    alpha: float = 4.0
    dropout: float = 0.05
    target: str | None = None
    max_tokens: int = 128
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    report: Literal["last_epoch", "best_epoch"] = "last_epoch"
    record: Literal["pass", "epoch"] = option("pass")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, n_train=10, n_dev=1, n_validation=0, epochs=1, batch_size=1, rank=1, max_tokens=4)
        shares(self, "flip", "warmup", "dropout")

    def check(self) -> None:
        from tasks._adapters import require_libraries
        from tasks._encoders import encoder

        require_libraries()
        rows, _ = self._rows()
        if len(rows) < self.n_validation + 10:
            raise RequestError(
                f"{self.name} has {len(rows)} training rows here; n_validation={self.n_validation} leaves too few"
            )
        if self.model != TINY:
            encoder(self.model, 2, self._adapters())

    def data_version(self) -> str:
        from tasks._adapters import folder_digest

        digest = files.digest(files.folder_of(self.data))
        return digest and digest + ("" if self.model == TINY else folder_digest(self.model))

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        import torch

        from tasks._text_training import tokenised

        rng = np.random.default_rng(seed)
        train, tested, held, further = self._drawn(rng)
        truth = train.labels
        wrong = rng.permutation(len(truth))[: round(self.flip * len(truth))]
        given = truth.copy()
        given[wrong] = 1 - given[wrong]
        made = self._encoder(train.texts, further, seed)

        def samples(rows: files.Texts, labels: np.ndarray) -> Samples:
            return Samples(tokenised(made, rows.texts, self.max_tokens), torch.from_numpy(labels))

        references = {}
        if self.n_validation:
            noisy = np.where(rng.random(len(held)) < self.flip, 1 - held.labels, held.labels)
            references = {"validation": samples(held, held.labels), "noisy_validation": samples(held, noisy)}
        return Split(samples(train, given), samples(tested, tested.labels), references, 2), truth

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> TrainedAdapters:
        return self._trained(split, keep, seed, None)

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> TrainedAdapters:
        return self._trained(split, None, seed, recorder)

    def _trained(self, split: Split, keep: np.ndarray | None, seed: int, recorder: Recorder | None) -> TrainedAdapters:
        import torch

        from tasks._classifying import accuracy, read_out
        from tasks._text_training import fit

        tokens, recipe = split.train.inputs, self._recipe()
        tokens.adapted.reset(seed)
        history: list[float] = []

        def after_epoch() -> None:
            history.append(accuracy(split.test.inputs, split.test.labels, recipe))
            if recorder is not None:
                now = TrainedAdapters(tokens.adapted.state(), [*history])
                recorder.moment(now, None if self.record == "pass" else lambda: read_out(tokens)[1].log())

        if recorder is not None:
            recorder.start(recipe.masses(len(split.train)))
        kept = None if keep is None else torch.from_numpy(np.flatnonzero(keep))
        in_pass = recorder.batch if recorder is not None and self.record == "pass" else None
        fit(tokens, split.train.labels, recipe, seed, after_epoch, kept, after_batch=in_pass)
        return TrainedAdapters(tokens.adapted.state(), history)

    def outputs(self, model: TrainedAdapters, samples: Samples) -> Outputs:
        from harness.interfaces.outputs import Outputs
        from tasks._classifying import read_out
        from tasks._text_training import adapter_gradients

        def gradients() -> dict[str, Tensor]:
            samples.inputs.adapted.load(model.state)
            return adapter_gradients(samples.inputs, samples.labels)

        samples.inputs.adapted.load(model.state)
        features, probs = read_out(samples.inputs)
        return Outputs(samples.labels, probs, features, blocks=gradients, with_head=True)

    def module(self, model: TrainedAdapters, split: Split) -> Callable[..., Any]:
        """A copy of the encoder, because later trainings change the one that all models of a seed share."""
        from copy import deepcopy

        from tasks._text_training import Cut

        adapted = split.train.inputs.adapted
        adapted.load(model.state)
        return Cut(deepcopy(adapted.model)).eval()

    def module_inputs(self, samples: Samples) -> Mapping[str, Tensor]:
        return dict(samples.inputs.parts)

    def evaluate(self, model: TrainedAdapters, split: Split) -> dict[str, float]:
        last, best = model.history[-1], max(model.history)
        return {"accuracy": best if self.report == "best_epoch" else last, "accuracy_best_epoch": best}

    def curves(self, model: TrainedAdapters, split: Split) -> Mapping[str, Sequence[float]]:
        return {"accuracy_by_epoch": model.history}

    def texts(self, seed: int) -> Mapping[str, list[str]]:
        train, tested, _, _ = self._drawn(np.random.default_rng(seed))
        return {"train": [" | ".join(row) for row in train.texts], "test": [" | ".join(row) for row in tested.texts]}

    def class_names(self) -> list[str]:
        return list(self.data.names)

    def _rows(self) -> tuple[files.Texts, files.Texts]:
        """All labelled rows of the training and the development file."""
        folder = files.folder_of(self.data)
        return _read(self.data, "train", folder), _read(self.data, "dev", folder)

    def _drawn(self, rng: np.random.Generator) -> tuple[files.Texts, files.Texts, files.Texts, files.Texts]:
        """Training, test and validation rows, and some of those left over."""
        rows, dev = self._rows()
        order = rng.permutation(len(rows))
        held, rest = order[: self.n_validation], order[self.n_validation :]
        tested = np.sort(rng.permutation(len(dev))[: self.n_dev])
        train, further = np.sort(rest[: self.n_train]), rest[self.n_train :][:FURTHER]
        return rows.take(train), dev.take(tested), rows.take(held), rows.take(further)

    def _adapters(self) -> Adapters:
        from tasks._adapters import Adapters

        return Adapters(self.rank, self.alpha, self.dropout, self.target)

    def _encoder(self, texts: Sequence[tuple[str, ...]], further: files.Texts, seed: int) -> Encoder:
        from tasks._encoders import encoder
        from tasks._tiny_encoder import tiny_encoder

        if self.model == TINY:
            return tiny_encoder(texts, further, self._adapters(), seed)
        return encoder(self.model, 2, self._adapters())

    def _recipe(self) -> Recipe:
        from tasks._text_training import Recipe

        return Recipe(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay, self.precision)


@functools.lru_cache(maxsize=8)
def _read(source: files.Source, split: str, folder: Path | None) -> files.Texts:
    """Rows of a split, read once a process and folder."""
    return files.read(source, split, folder)


@register_task
@dataclass(frozen=True)
class Qnli(GlueTask):
    """A question and a sentence: does the sentence answer the question? 20 % of the training labels are flipped."""

    name: ClassVar[str] = "glue_qnli"
    title: ClassVar[str] = "QNLI"
    data: ClassVar[files.Source] = files.QNLI


@register_task
@dataclass(frozen=True)
class Sst2(GlueTask):
    """Sentences: is the sentiment positive? 20 % of the training labels are flipped."""

    name: ClassVar[str] = "glue_sst2"
    title: ClassVar[str] = "SST-2"
    data: ClassVar[files.Source] = files.SST2


@register_task
@dataclass(frozen=True)
class Qqp(GlueTask):
    """Pairs of questions: do both ask the same? 20 % of the training labels are flipped."""

    name: ClassVar[str] = "glue_qqp"
    title: ClassVar[str] = "QQP"
    data: ClassVar[files.Source] = files.QQP


@register_task
@dataclass(frozen=True)
class Mrpc(GlueTask):
    """Pairs of sentences: do both say the same? 20 % of the training labels are flipped."""

    name: ClassVar[str] = "glue_mrpc"
    title: ClassVar[str] = "MRPC"
    data: ClassVar[files.Source] = files.MRPC
