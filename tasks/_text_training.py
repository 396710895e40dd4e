"""Tokenised texts, training adapters on them, and the adapters' gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.errors import RequestError
from harness.gradients.per_sample import cross_entropies, iterate
from harness.gradients.sample_losses import Loss
from harness.gradients.storage import allocated
from harness.interfaces.telling import tell
from tasks._adapters import Adapted

READ_TOKENS = {"cpu": 2048, "cuda": 16_384}
GRADIENT_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens of a batch, padding included, in reading out and in taking gradients, which keeps what every layer gave: on
CPUs so few that this stays in the cache."""
SORTED_TOGETHER = 16
"""Batches whose samples are sorted by length among themselves, so that little is padding."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids (n, t) and the like on a device, padded at the end, with the model that they are for.

    Args:
        adapted: the model.
        parts: ``input_ids``, ``attention_mask`` and whatever else the model takes, (n, t) int64.
        lengths: tokens of each sample without padding, (n,) int64, on the CPU.
    """

    adapted: Adapted
    parts: dict[str, Tensor]
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: slice) -> Tokens:
        return replace(
            self, parts={name: values[rows] for name, values in self.parts.items()}, lengths=self.lengths[rows]
        )

    @property
    def device(self) -> torch.device:
        return self.parts["input_ids"].device

    def to(self, device: str) -> Tokens:
        self.adapted.to(device)
        return replace(self, parts={name: values.to(device) for name, values in self.parts.items()})

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Some samples, cut to the longest of them."""
        longest = int(self.lengths[rows].max())
        return {name: values[rows.to(values.device), :longest] for name, values in self.parts.items()}


def tokenised(adapted: Adapted, texts: Sequence[tuple[str, ...]], most: int) -> Tokens:
    """Texts, or pairs of texts, as tokens; what is longer than ``most`` tokens is cut.

    Raises:
        RequestError: the model takes fewer tokens.
    """
    if most > adapted.most_tokens:
        raise RequestError(f"max_tokens={most} is more than the model takes, {adapted.most_tokens}")
    columns = [list(column) for column in zip(*texts, strict=True)]
    tokens = adapted.tokenizer(*columns, truncation=True, max_length=most, padding=True, return_tensors="pt")
    parts = {name: values.long() for name, values in tokens.items()}
    return Tokens(adapted, parts, parts["attention_mask"].sum(1))


@dataclass(frozen=True)
class Recipe:
    """AdamW with a linear schedule.

    Args:
        epochs: passes over the kept samples.
        batch_size: samples a step.
        lr: the largest learning rate.
        warmup: share of the steps in which it rises; it falls to zero afterwards.
        weight_decay: decoupled.
        precision: of forward and backward pass; ``auto`` is bfloat16 on a CUDA device that has it, else float32.
    """

    epochs: int
    batch_size: int
    lr: float
    warmup: float
    weight_decay: float
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0) of so many in all."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (step + 1) / max(1.0, rising)
        return self.lr * (steps - step) / max(1.0, steps - rising)

    def masses(self, n: int) -> list[float]:
        """The sum of the learning rates of each epoch's steps, for n training samples."""
        per_epoch = math.ceil(n / self.batch_size)
        rates = [self.rate(step, self.epochs * per_epoch) for step in range(self.epochs * per_epoch)]
        return [sum(rates[start : start + per_epoch]) for start in range(0, len(rates), per_epoch)]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        wanted = self.precision == "bfloat16"
        if self.precision == "auto" and device.type == "cuda":
            wanted = torch.version.cuda is None or torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def batches(lengths: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of one epoch's batches, each (size,) or fewer: shuffled, and alike in length within a batch."""
    order = torch.randperm(len(lengths), generator=generator)
    batches = []
    for pool in torch.split(order, size * SORTED_TOGETHER):
        batches += list(torch.split(pool[lengths[pool].argsort(stable=True)], size))
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[index]


def fit(
    tokens: Tokens,
    targets: Tensor,
    recipe: Recipe,
    seed: int,
    after_epoch: Callable[[], None],
    kept: Tensor | None = None,
    loss: Loss = cross_entropies,
    after_batch: Callable[[Tensor, Tensor], None] | None = None,
) -> None:
    """Train what a model has to train in place, from where it is.

    Args:
        targets: (n, …) as ``loss`` takes them, on the model's device.
        seed: of the batches and of dropout; global random state is left as it was.
        after_epoch: called after every epoch.
        kept: positions of the samples to train on; None for all.
        loss: (logits, targets) to the losses (n,).
    """
    model, device = tokens.adapted.model, targets.device
    kept = torch.arange(len(tokens)) if kept is None else kept
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(tokens.adapted.trainable(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps, step = recipe.epochs * math.ceil(len(kept) / recipe.batch_size), 0
    with _seeded(seed, device):
        for epoch in range(recipe.epochs):
            tell(f"epoch {epoch + 1} of {recipe.epochs}")
            model.train()
            for chosen in batches(tokens.lengths[kept], recipe.batch_size, generator):
                rows = kept[chosen]
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate(step, steps)
                step += 1
                optimiser.zero_grad()
                with recipe.autocast(device):
                    logits = model(**tokens.batch(rows)).logits
                torch.autograd.backward(loss(logits.float(), targets[rows.to(device)]).mean())
                optimiser.step()
                if after_batch is not None:
                    after_batch(rows, logits)
            model.eval()
            after_epoch()


def adapter_gradients(
    tokens: Tokens, targets: Tensor, names: Sequence[str] | None = None, loss: Loss = cross_entropies
) -> dict[str, Tensor]:
    """Gradients of each sample's loss in the adapters, {short name: (n, *shape)}, float32, in the samples' order.

    Args:
        targets: (n, …) as ``loss`` takes them.
        names: of some adapters' parameters; None for all.
        loss: (logits, targets) to the losses (n,).
    """
    names = tokens.adapted.adapters if names is None else names
    order = tokens.lengths.argsort(stable=True)
    parts = {name: values[order.to(values.device)] for name, values in tokens.parts.items()}
    targets = targets[order.to(targets.device)]
    padding_counts = int(tokens.lengths.sum()) > int(tokens.parts["attention_mask"].sum())
    model, own = Cut(tokens.adapted.model, not padding_counts), dict(tokens.adapted.model.named_parameters())
    result = allocated({name: tuple(own[name].shape) for name in names}, len(tokens), tokens.device)
    layers = [f"model.{name}" for name in names]
    done, together = 0, GRADIENT_TOKENS[tokens.device.type]
    while done < len(tokens):
        rest = [slice(done + rows.start, done + rows.stop) for rows in by_size(tokens.lengths[order[done:]], together)]
        try:
            for rows, gradients in iterate(model, parts, targets, layers, loss, rest):
                for name, values in gradients.items():
                    into = result[name.removeprefix("model.")]
                    into[order[rows].to(into.device)] = values.to(into.device)
                done = rows.stop
        except torch.OutOfMemoryError:
            failed = next((rows for rows in rest if rows.start == done), slice(0, 1))
            if failed.stop - failed.start == 1:
                raise
        if done < len(tokens):  # out of memory: fewer together from here on
            together //= 2
            torch.cuda.empty_cache()
    return {_short(name): result[name] for name in names}


class Cut(nn.Module):
    """A model's logits from token ids, attention mask and the like.

    Args:
        cut: whether padding that no sample needs is cut off first.
    """

    def __init__(self, model: nn.Module, cut: bool = True) -> None:
        super().__init__()
        self.model, self.cut = model, cut

    def forward(self, **parts: Tensor) -> Tensor:
        longest = int(parts["attention_mask"].sum(1).max()) if self.cut else None
        logits: Tensor = self.model(**{name: values[:, :longest] for name, values in parts.items()}).logits
        return logits.float()


def _short(name: str) -> str:
    """A LoRA parameter's name without what every one of them has."""
    return name.removeprefix("base_model.model.").replace(".default.weight", "")


def by_size(lengths: Tensor, tokens: int) -> Iterator[slice]:
    """Batches of so many tokens at most, padding included, and one sample at least; the lengths rise."""
    sizes, start = lengths.tolist(), 0
    while start < len(sizes):
        stop = start + 1
        while stop < len(sizes) and sizes[stop] * (stop + 1 - start) <= tokens:
            stop += 1
        yield slice(start, stop)
        start = stop


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from the global generators: seed them for a while and put them back."""
    devices: list[Any] = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
