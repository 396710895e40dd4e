"""Gradients and curvature of a torch model's linear and convolutional layers, beyond the last layer.

A view's gradients are those of the last layer (or of adapters). Methods that need other layers differentiate
`View.model` on `View.inputs`, a chunk of samples at a time, so that the n × p matrix is never in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from harness.errors import Unsupported
from harness.gradients.layer_factors import Factors, factors, kronecker_layers, parameters_of
from harness.gradients.model_inputs import Inputs, logits_of
from harness.gradients.per_sample import MOST_TOGETHER, iterate
from harness.gradients.sample_losses import Loss

if TYPE_CHECKING:
    from harness.interfaces.view import View


def losses(output: Any, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample, (n,), from logits (n, c), or (n, 1) for one sigmoid output."""
    logits = logits_of(output)
    if logits.shape[1] == 1:
        return binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), reduction="none")
    return cross_entropy(logits, targets, reduction="none")


def margins(output: Any, targets: Tensor) -> Tensor:
    """log(p_y / (1 − p_y)) of each sample, (n,), from logits as for `losses`."""
    logits = logits_of(output)
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * targets - 1)
    own = torch.arange(logits.shape[1], device=logits.device) == targets.unsqueeze(1)
    return logits.gather(1, targets.unsqueeze(1))[:, 0] - logits.masked_fill(own, -torch.inf).logsumexp(1)


@dataclass(frozen=True, eq=False)
class Network:
    """A model's chosen layers.

    Args:
        layers: by name; the gradient of a layer is a matrix (c, d), its weight with a column for the bias.
    """

    model: nn.Module
    layers: Mapping[str, nn.Module]

    @classmethod
    def of(cls, view: View, pattern: str) -> Network:
        """The layers of a view's model.

        Args:
            pattern: ``all``, or a glob over the names of layers.

        Raises:
            Unsupported: the view has no torch module, or no layer has such a name.
        """
        model = view.model
        if not isinstance(model, nn.Module):
            raise Unsupported("layers beyond the last one need a model that is a torch module")
        return cls(model, kronecker_layers(model, pattern))

    def targets(self, labels: np.ndarray) -> Tensor:
        """Labels (n,) as a tensor on the model's device."""
        return torch.from_numpy(labels).to(next(self.model.parameters()).device)

    def gradients(self, inputs: Any, targets: Tensor, loss: Loss = losses) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Per-sample gradients of the layers chunk by chunk, (rows, {layer: (r, c, d)}).

        Args:
            targets: (n,) int64.
            loss: of (output, targets) to the values (n,) that are differentiated.
        """
        names = {name: parameters_of(name, layer) for name, layer in self.layers.items()}
        every = [parameter for own in names.values() for parameter in own]
        for rows, made in iterate(self.model, inputs, targets, every, loss):
            matrices = {name: values.reshape(*values.shape[:2], -1) for name, values in made.items()}
            yield rows, {name: torch.cat([matrices[one] for one in own], dim=2) for name, own in names.items()}

    @torch.no_grad()
    def probabilities(self, inputs: Any, n: int) -> Tensor:
        """Class probabilities, (n, c ≥ 2)."""
        batch = Inputs.of(inputs, n, self.model)
        logits = torch.cat([logits_of(batch.part(rows).call(self.model)) for rows in _slices(n)])
        return torch.cat([-logits, logits], 1).div(2).softmax(1) if logits.shape[1] == 1 else logits.softmax(1)


@dataclass(frozen=True, eq=False)
class Weighted:
    """A label for every sample, with its weight in an expectation over labels.

    Args:
        targets: (n,) int64.
        weights: (n,). The weights of one sample sum to 1 over all entries of the expectation.
    """

    targets: Tensor
    weights: Tensor


Curvature = Literal["exact", "sampled", "outer_product"]


def expectation(
    network: Network, inputs: Any, labels: Tensor, curvature: Curvature, rng: np.random.Generator
) -> list[Weighted]:
    """The labels over which the curvature E[g gᵀ] is taken.

    Args:
        curvature: ``exact``, every class with the model's probability; ``sampled``, one label drawn from the model's
            probabilities; ``outer_product``, the given labels.
    """
    n = len(labels)
    ones = torch.ones(n, device=labels.device)
    if curvature == "outer_product":
        return [Weighted(labels, ones)]
    probs = network.probabilities(inputs, n)
    if curvature == "exact":
        return [Weighted(torch.full_like(labels, k), probs[:, k]) for k in range(probs.shape[1])]
    drawn = torch.from_numpy(rng.random(n)).to(probs.device)
    sampled = (probs.double().cumsum(1) < drawn.unsqueeze(1)).sum(1).clamp(max=probs.shape[1] - 1)
    return [Weighted(sampled, ones)]


def factors_of(network: Network, inputs: Any, expected: list[Weighted]) -> dict[str, Factors]:
    """The factors of each layer, over the expected labels."""

    def total(entry: Weighted, logits: Tensor, rows: slice) -> Tensor:
        return (losses(logits, entry.targets[rows]) * entry.weights[rows].sqrt()).sum()

    n, each = len(expected[0].targets), [partial(total, entry) for entry in expected]
    return factors(network.model, network.layers, inputs, n, each, _slices(n))


def _slices(n: int) -> Iterator[slice]:
    for start in range(0, n, MOST_TOGETHER):
        yield slice(start, min(start + MOST_TOGETHER, n))
