"""`Outputs`: labels, probabilities and features of a set of samples, and the gradients computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.blocks import Block, DenseBlock, OuterBlock
from harness.gradients.gradients import Gradients
from harness.gradients.products import aligned


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of one model pass over a set of samples. Tasks create `Outputs`.

    Args:
        labels: given labels, (n,) int64.
        probs: class probabilities (n, c), or (n, 1) for one sigmoid output (the probability of class 1).
        features: the last layer's input, (n, d).
        bias: whether the last layer's bias belongs to the gradient.
        blocks: dense per-sample gradients (n, …) by layer, or a function that computes the gradients on first use.
            With ``blocks``, ``features`` become a gradient block only if ``with_head`` is True.
        with_head: the last layer is one layer beside the blocks, and ``layers="last"`` selects the last layer.
        last: computes the blocks that ``layers="last"`` selects, for a model without such a last layer.

    NumPy arrays are accepted, too.

    Raises:
        ValueError: features or probabilities do not have one row per label.
    """

    labels: Tensor
    probs: Tensor | None = None
    features: Tensor | None = None
    bias: bool = False
    blocks: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]] | None = None
    with_head: bool = False
    last: Callable[[], Mapping[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "probs", "features"):
            values = getattr(self, name)
            if isinstance(values, np.ndarray):
                object.__setattr__(self, name, torch.from_numpy(values))
            if values is not None and len(values) != len(self.labels):
                raise ValueError(f"{name} has {len(values)} rows, and there are {len(self.labels)} labels")

    @property
    def device(self) -> str:
        """The device that holds the gradients, ``"cpu"`` or ``"cuda:0"``."""
        if self.blocks is None:
            return "cpu" if self.features is None else str(self.features.device)
        known = self.labels if callable(self.blocks) else next(iter(self.blocks.values()))
        return str(known.device)

    @property
    def layered(self) -> bool:
        """Whether ``layers="last"`` and ``layers="all"`` select different gradients."""
        return self.last is not None or (self.blocks is not None and self.with_head)

    def gradients(self) -> Gradients:
        """Per-sample gradients of the cross-entropy loss in all layers, (n, p) in blocks."""
        if self.blocks is None:
            return self.last_layer()
        dense = _dense(self.blocks() if callable(self.blocks) else self.blocks)
        return Gradients({**dense, **self.last_layer()} if self.with_head else dense, self.device)

    def last_layer(self) -> Gradients:
        """Per-sample gradients in the last layer alone."""
        if self.last is not None:
            return Gradients(_dense(self.last()), self.device)
        if self.features is None or self.probs is None:
            raise Unsupported("gradients need the last layer's features and class probabilities, or dense blocks")
        features = aligned(self.features)
        if self.bias:
            features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        target = self.labels.to(self.probs.device)
        if self.probs.shape[1] == 1:
            residuals = self.probs - target.unsqueeze(1).to(self.probs.dtype)
        else:
            residuals = self.probs.clone()
            residuals[torch.arange(len(target), device=residuals.device), target] -= 1
        return Gradients({"head": OuterBlock(residuals, features, self.probs)})

    def class_probs(self) -> np.ndarray:
        """Probabilities with one column per class, (n, c ≥ 2), float64."""
        if self.probs is None:
            raise Unsupported("this view has no class probabilities")
        probs = self.probs.double().cpu().numpy()
        return np.hstack([1 - probs, probs]) if probs.shape[1] == 1 else probs

    def losses(self) -> np.ndarray:
        """Cross-entropy of each sample with its given label, (n,), float64."""
        probs = self.class_probs()
        picked = probs[np.arange(len(probs)), self.labels.cpu().numpy()]
        return np.asarray(-np.log(np.maximum(picked, np.finfo(np.float32).tiny)))


def _dense(blocks: Mapping[str, Tensor]) -> dict[str, Block]:
    return {name: DenseBlock(values) for name, values in blocks.items()}


class Reference:
    """A reference set as a method sees it.

    Args:
        gradients: computes `gradients`.
        labels: (n_reference,); maybe wrong if the set is noisy.
        inputs: as `View.inputs`; None where they are not known.
        features: computes `features`.
    """

    def __init__(
        self,
        gradients: Callable[[], Gradients],
        labels: np.ndarray,
        inputs: Any,
        features: Callable[[], Tensor | None],
    ) -> None:
        self._gradients, self._features = gradients, features
        self.labels, self.inputs = labels, inputs

    @property
    def n(self) -> int:
        """Number of reference samples."""
        return len(self.labels)

    @property
    def gradients(self) -> Gradients:
        """Per-sample gradients of the loss in the chosen layers."""
        return self._gradients()

    @property
    def features(self) -> Tensor | None:
        """The last layer's input, (n_reference, d); None where it is not known."""
        return self._features()
