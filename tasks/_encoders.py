"""Text encoders with LoRA adapters: the base weights are loaded once a process and shared by all models of a run."""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RequestError, did_you_mean

VALUES = ("value", "v_proj", "value_proj", "v_lin", "Wqkv", "query_key_value", "v")
"""What attention's value matrices are called, by family; where all three are one matrix, that. The first one counts."""


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (Hu et al., ICLR 2022) on every attention value matrix.

    Args:
        rank, alpha, dropout: of the adapters; their update is scaled by alpha / rank.
        target: the modules' name, the last part of it; None finds the value matrices.
    """

    rank: int
    alpha: float
    dropout: float
    target: str | None = None


class Encoder:
    """A tokenizer, and a sequence classifier whose adapters and classification head are trained.

    Attributes:
        model: maps ``input_ids`` and the like to an output with ``logits``, (n, c).
        adapters: names of the adapters' parameters.
        head: name of the head's output projection, a linear layer.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, adapters: Adapters) -> None:
        from peft import LoraConfig, TaskType, get_peft_model

        config: Any = model.config
        prefix = str(getattr(model, "base_model_prefix", ""))
        projection = _projection_of(model)
        lora = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=adapters.rank,
            lora_alpha=adapters.alpha,
            lora_dropout=adapters.dropout,
            target_modules=[_target_of(model, adapters.target)],
            modules_to_save=[name for name, child in model.named_children() if name != prefix and _has_weights(child)],
        )
        self.tokenizer = tokenizer
        self.model: Any = get_peft_model(model.float(), lora)
        self._trained = {name: values for name, values in self.model.named_parameters() if values.requires_grad}
        self.adapters = [name for name in self._trained if ".lora_" in name]
        top, _, rest = projection.partition(".")
        self.head = f"base_model.model.{top}.modules_to_save.default{'.' * bool(rest)}{rest}"
        self._start = self.state()
        self._deviation = float(getattr(config, "initializer_range", 0.02))
        self.most_tokens = min(int(tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", 10**9)))

    def trainable(self) -> list[Tensor]:
        """The parameters that are trained."""
        return list(self._trained.values())

    def state(self) -> dict[str, Tensor]:
        """A copy of the adapters and the head, all that differs between models."""
        return {name: values.detach().clone() for name, values in self._trained.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put adapters and head in place."""
        for name, values in state.items():
            self._trained[name].copy_(values)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Fresh adapters (A uniform as in a linear layer, B zero) and head (normal, as encoders start) from a seed."""
        generator = torch.Generator().manual_seed(seed)
        for name, values in self._trained.items():
            drawn = torch.zeros(values.shape)
            if ".lora_A" in name:
                bound = values.shape[1] ** -0.5
                values.copy_(drawn.uniform_(-bound, bound, generator=generator))
            elif ".lora_B" not in name and values.ndim > 1:
                values.copy_(drawn.normal_(0, self._deviation, generator=generator))
            else:
                values.copy_(self._start[name])

    def to(self, device: str) -> Encoder:
        """This very encoder, moved."""
        self.model.to(device)
        return self


@functools.lru_cache(maxsize=2)
def encoder(name: str, n_classes: int, adapters: Adapters) -> Encoder:
    """A pretrained encoder by the hub's name or a folder, in float32, once a process.

    Raises:
        RequestError: it is not there, has no tokenizer, or is no encoder that can classify sequences.
    """
    require_libraries()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet(), torch.random.fork_rng(devices=[]):
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(name)
            if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
                raise ValueError("it knows no words")  # what transformers makes of a folder without a tokenizer's files
        except Exception as error:  # the hub's client raises many kinds
            raise _unavailable(name, "tokenizer", error) from error
        try:
            model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=n_classes)
        except Exception as error:
            raise _unavailable(name, "model", error) from error
        if tokenizer.pad_token is None:
            raise RequestError(f"model={name}: its tokenizer has no padding token, so it cannot take texts in batches")
        tokenizer.padding_side = "right"
        try:
            return Encoder(tokenizer, model, adapters)
        except RequestError as error:
            raise RequestError(f"model={name}: {error}") from error


def require_libraries() -> None:
    """Raises a RequestError where the extra ``nlp`` is not installed."""
    missing = [name for name in ("transformers", "peft") if find_spec(name) is None]
    if missing:
        raise RequestError(
            f"this task needs {' and '.join(missing)}, not installed here: pip install 'influence-harness[nlp]'"
        )


def folder_digest(name: str) -> str:
    """What tells a local model folder from another: names, sizes, and the contents of all but the weights."""
    found = hashlib.sha256()
    for path in sorted(Path(name).glob("*")) if Path(name).is_dir() else []:
        if path.is_file():
            size = path.stat().st_size
            found.update(f"{path.name} {size}".encode() + (path.read_bytes() if size < 2**20 else b""))
    return found.hexdigest()[:16]


@contextmanager
def quiet() -> Iterator[None]:
    """transformers and peft without their progress bars, load reports and notes to each other's developers."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def _target_of(model: nn.Module, given: str | None) -> str:
    kinds = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = next((name for name in VALUES if name in kinds), None) if given is None else given
    if found not in kinds:
        wanted = f"no linear layer called {given!r}" if given else "no attention value matrix under a known name"
        raise RequestError(
            f"{type(model).__name__} has {wanted}{did_you_mean(given or 'value', kinds)}; its linear layers are "
            f"{', '.join(sorted(kinds)) or 'none'}: name one by target="
        )
    return str(found)


def _projection_of(model: nn.Module) -> str:
    """The name of a classifier's output projection."""
    for name in ("classifier.out_proj", "classifier", "score"):
        try:
            module = model.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(module, nn.Linear):
            return name
    raise RequestError(
        f"{type(model).__name__} has no linear classification head where encoders have it: classifier.out_proj, "
        "classifier or score"
    )


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _unavailable(name: str, what: str, error: Exception) -> RequestError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    if Path(name).is_dir():
        return RequestError(f"model={name}: the folder holds no {what} that can be loaded ({reason})")
    offline = " (HF_HUB_OFFLINE=1 is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return RequestError(
        f"model={name}: its {what} is neither in a folder here nor to be had from the Hugging Face hub{offline}; fetch "
        f"it once with a network, name a local folder, or take model=tiny ({reason})"
    )
