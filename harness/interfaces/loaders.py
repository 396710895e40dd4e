"""Batches of a user's data: from a DataLoader, a Dataset or a list of batches to inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from harness.errors import RequestError
from harness.gradients.model_inputs import as_targets

TARGETS = ("labels", "label", "targets", "target", "y")
"""Names under which a mapping may hold the targets."""

MOST_INPUTS = 2**30
"""Bytes of inputs that a view keeps for `View.inputs`."""

BATCH = 64
"""Samples of a batch where a Dataset is given without a DataLoader."""

Taken = Callable[[Any], tuple[Any, Any]]
"""A batch to (inputs, targets)."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches that can be read again in the same order.

    Args:
        source: a DataLoader that does not shuffle, a Dataset, or a list of batches.
        take: a batch to (inputs, targets); None for the usual forms: a mapping with one of `TARGETS`, or a tuple whose
            last entry is the targets.
        model: whose device the batches go to.
    """

    source: Any
    take: Taken | None
    model: nn.Module

    def __post_init__(self) -> None:
        source = self.source
        if isinstance(source, DataLoader):
            if isinstance(source.dataset, IterableDataset):
                return  # its order is its own; passes are compared by their targets
            batches = source.batch_sampler
            sampler = source.sampler if batches is None else getattr(batches, "sampler", batches)
            if not isinstance(sampler, SequentialSampler):
                raise RequestError(
                    f"the loader takes samples in an order of its own ({type(sampler).__name__}), so no score would "
                    "belong to a row; give shuffle=False and no sampler"
                )
            size = source.batch_size or getattr(batches, "batch_size", None)
            if getattr(batches, "drop_last", source.drop_last) and size and len(source.dataset) % size:  # type: ignore[arg-type]
                raise RequestError(
                    "the loader drops the last batch, so its samples would have no score; give drop_last=False"
                )
        elif isinstance(source, Iterator) or not isinstance(source, Dataset | list | tuple):
            raise RequestError(
                "loader= must be a DataLoader, a Dataset or a list of batches, which can be read again; it is a "
                f"{type(source).__name__}"
            )

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        """(inputs, targets) batch by batch, on the model's device."""
        source = self.source
        if isinstance(source, Dataset) and not isinstance(source, DataLoader):
            source = DataLoader(source, batch_size=BATCH)
        device = next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[]):  # a DataLoader draws a seed from the global generator
            batches = iter(source)
        for batch in batches:
            inputs, targets = self._taken(batch)
            yield moved(inputs, device), as_targets(targets, self.model)

    @cached_property
    def targets(self) -> list[Tensor]:
        """Of each batch, (b, …); texts of different batches may have different lengths."""
        return [targets for _, targets in self]

    @property
    def n(self) -> int:
        """Number of samples."""
        return sum(map(len, self.targets))

    @property
    def one_target(self) -> bool:
        """Whether a sample has one target, as opposed to one per token."""
        return all(targets[:1].numel() == 1 for targets in self.targets)

    def labels(self, classes: bool) -> np.ndarray:
        """Class numbers, (n,) int64; zeros where targets are no classes, such as the tokens of a text.

        Args:
            classes: whether targets must be class numbers where they are whole numbers.

        Raises:
            RequestError: some targets are no class numbers, such as −100.
        """
        if not self.one_target:
            return np.zeros(self.n, dtype=np.int64)
        targets = torch.cat([part.reshape(len(part)) for part in self.targets])
        if targets.is_floating_point() and bool((targets != targets.round()).any()):
            return np.zeros(self.n, dtype=np.int64)
        labels = targets.long().cpu().numpy()
        if classes and (labels < 0).any():
            row = int(np.flatnonzero(labels < 0)[0])
            raise RequestError(
                f"the target of sample {row} is {labels[row]}, which no class has; leave out samples without a label"
            )
        return np.asarray(np.maximum(labels, 0))

    def inputs(self) -> Any:
        """All inputs, if they are one tensor per batch and fit in `MOST_INPUTS`; otherwise None."""
        parts, size = [], 0
        for inputs, _ in self:
            if not isinstance(inputs, Tensor):
                return None
            size += inputs.nbytes
            if size > MOST_INPUTS:
                return None
            parts.append(inputs)
        shapes = {part.shape[1:] for part in parts}
        return torch.cat(parts) if len(shapes) == 1 else None

    def _taken(self, batch: Any) -> tuple[Any, Any]:
        if self.take is None:
            return taken(batch)
        try:
            inputs, targets = self.take(batch)
        except Exception as error:  # a function of the user's may raise anything
            raise RequestError(f"take= fails on a batch: {type(error).__name__}: {error}") from error
        return inputs, targets


def taken(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch in one of the usual forms.

    Raises:
        RequestError: the batch has another form.
    """
    if isinstance(batch, Mapping):
        for name in TARGETS:
            if name in batch:
                return {key: value for key, value in batch.items() if key != name}, batch[name]
        raise RequestError(
            f"a batch has {', '.join(map(str, batch))} and none of {', '.join(TARGETS)}; give take=, a function from a "
            "batch to (inputs, targets)"
        )
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        *inputs, targets = batch
        return (inputs[0] if len(inputs) == 1 else tuple(inputs)), targets
    raise RequestError(
        f"a batch is a {type(batch).__name__} without targets; give take=, a function from a batch to (inputs, targets)"
    )


def moved(value: Any, device: torch.device) -> Any:
    """The tensors in a value on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(entry, device) for entry in value)
    return value
