"""Models with low-rank adapters: the base weights are frozen; only the adapters are trained, stored and reset."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from harness.errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (Hu et al., ICLR 2022) on matrices of every layer.

    Args:
        rank, alpha, dropout: settings of the adapters, whose update is scaled by alpha / rank.
        target: the name of the adapted modules or its last part; several names are joined by ``+``. With None, the
            task finds its attention matrices.
    """

    rank: int
    alpha: float
    dropout: float
    target: str | None = None


class Adapted:
    """A tokenizer, and a model whose adapters and new modules (if any) are trained.

    Args:
        tokenizer: it must pad batches of texts at the end.
        model: the base model, whose weights are not trained.
        adapters: settings of the adapter that each linear layer in ``targets`` gets.
        kind: peft's name of the model's task.
        targets: names of linear layers, or the last parts of these names.
        new: modules whose weights are all trained.

    Attributes:
        model: the adapted model.
        adapters: names of the adapters' parameters.
        most_tokens: the largest number of tokens that the model takes.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: nn.Module,
        adapters: Adapters,
        kind: str,
        targets: Sequence[str],
        new: Sequence[str] = (),
    ) -> None:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            task_type=kind,
            r=adapters.rank,
            lora_alpha=adapters.alpha,
            lora_dropout=adapters.dropout,
            target_modules=list(targets),
            modules_to_save=list(new) or None,
            fan_in_fan_out=any(_is_conv1d(module) for name, module in model.named_modules() if _kind(name) in targets),
        )
        config: Any = model.config
        config.use_cache = False  # the cache is never used and takes 0.8 MB per token for a 13B model
        with quiet():
            self.model: Any = get_peft_model(model, lora)
        self.tokenizer = tokenizer
        self.adapters = [name for name in self._trained if ".lora_" in name]
        self._start = self.state()
        self._deviation = float(getattr(config, "initializer_range", 0.02))
        limits = [tokenizer.model_max_length, *(getattr(config, name, 10**9) for name in POSITIONS)]
        self.most_tokens = min(int(limit) for limit in limits)

    @property
    def _trained(self) -> dict[str, Tensor]:
        """Looked up at every call, because a model that moves to a device may get other parameters there."""
        return {name: values for name, values in self.model.named_parameters() if values.requires_grad}

    def trainable(self) -> list[Tensor]:
        """The parameters that are trained."""
        return list(self._trained.values())

    def state(self) -> dict[str, Tensor]:
        """A copy of all parameters that differ between fine-tuned models."""
        return {name: values.detach().clone() for name, values in self._trained.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copy the parameters of a ``state`` into the model."""
        trained = self._trained
        for name, values in state.items():
            trained[name].copy_(values)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Fresh adapters (A uniform as in a linear layer, B zero) and new modules (normal, as such models start)."""
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

    def to(self, device: str) -> Self:
        """Move this model to the device, in place."""
        self.model.to(device)
        return self


POSITIONS = ("max_position_embeddings", "n_positions")


def targets_of(model: nn.Module, target: str | None, known: Sequence[Sequence[str]], what: str) -> list[str]:
    """The names of the modules to adapt: the given names, or the first of the known sets that the model has.

    Raises:
        RequestError: the model has none of these modules.
    """
    kinds = {_kind(name) for name, module in model.named_modules() if _is_linear(module)}
    wanted = [target.split("+")] if target is not None else known
    targets = next((list(names) for names in wanted if set(names) <= kinds), None)
    if targets is None:
        lacking = [name for name in wanted[0] if name not in kinds]
        has = f"no linear layer called {lacking[0]!r}" if target else f"no {what} under a known name"
        raise RequestError(
            f"{type(model).__name__} has {has}{did_you_mean(lacking[0], kinds)}; its linear layers are "
            f"{', '.join(sorted(kinds)) or 'none'}: name those to adapt by target="
        )
    return targets


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    """Whether the module is GPT-2's linear layer, whose weight is stored transposed."""
    return type(module).__name__ == "Conv1D"


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def pretrained_tokenizer(name: str) -> Any:
    """A tokenizer by a Hugging Face hub name or a local folder.

    Raises:
        RequestError: there is no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
        if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
            raise ValueError("it knows no words")  # what transformers makes of a folder without a tokenizer's files
    except Exception as error:  # the hub's client raises many kinds
        raise unavailable(name, "tokenizer", error) from error
    tokenizer.padding_side = "right"
    return tokenizer


def require_libraries(*names: str) -> None:
    """Raises a RequestError where the extra ``nlp``, or a library beside it, is not installed."""
    missing = [name for name in ("transformers", "peft", *names) if find_spec(name) is None]
    if missing:
        raise RequestError(
            f"this task needs {' and '.join(missing)}, not installed here: "
            f"pip install 'influence-harness[nlp]'{''.join(f' {name}' for name in missing if name in names)}"
        )


def unavailable(name: str, what: str, error: Exception) -> RequestError:
    """The error for a model that cannot be loaded."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    if Path(name).is_dir():
        return RequestError(f"model={name}: the folder holds no {what} that can be loaded ({reason})")
    offline = " (HF_HUB_OFFLINE=1 is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return RequestError(
        f"model={name}: its {what} is neither in a folder here nor to be had from the Hugging Face hub{offline}; fetch "
        f"it once with a network (a gated one after its licence and `hf auth login`), name a local folder, or take "
        f"model=tiny ({reason})"
    )


def folder_digest(name: str) -> str:
    """A hash of a local model folder; empty for a name that is no folder.

    The hash covers the files' names and sizes, one MiB of every 64 MiB, and the last MiB.
    """
    if not Path(name).is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(file for file in Path(name).glob("*") if file.is_file()):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name} {size}".encode())
            for start in (*range(0, size, 2**26), max(0, size - 2**20)):
                file.seek(start)
                digest.update(file.read(2**20))
    return digest.hexdigest()[:16]


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
