"""The EK-FAC inverse of a network's layers, and its products with the samples' gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.interfaces.outputs import Reference
from methods._kronecker import Eigenbasis
from methods._network import Curvature, Network, expectation
from methods._solvers import SMALLEST_DAMPING

if TYPE_CHECKING:
    from harness.interfaces.view import View

REFERENCE_BYTES = 2**30
"""Memory for solved reference gradients. What is beyond it takes another pass over the training samples."""

Layers = Mapping[str, Tensor]
"""Gradients (n, c, d) by layer."""


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A model's layers with their curvatures in the eigenvectors of their factors.

    Args:
        inputs, labels: of the training samples.
        dampings: λ of each layer.
    """

    network: Network
    inputs: Any
    labels: Tensor
    bases: Mapping[str, Eigenbasis]
    dampings: Mapping[str, float]

    @classmethod
    def of(cls, view: View, layers: str, curvature: Curvature, damping: float | str) -> FittedNetwork:
        """Fit the layers of a view's model, and note the dampings in the view's health.

        Args:
            damping: λ, or ``auto`` for a tenth of a layer's mean eigenvalue (Grosse et al. 2023, appendix).

        Raises:
            Unsupported: the view has no torch module, or no layer has such a name.
        """
        network, inputs = Network.of(view, layers), view.inputs
        labels = network.targets(view.labels)
        bases = Eigenbasis.of_layers(network, inputs, expectation(network, inputs, labels, curvature, view.rng))
        dampings = {
            name: float(damping) if damping != "auto" else max(float(basis.values.mean()) / 10, SMALLEST_DAMPING)
            for name, basis in bases.items()
        }
        for name, basis in bases.items():
            view.health[name] = {"solver": "ekfac", "dimension": basis.values.numel(), "damping": dampings[name]}
        return cls(network, inputs, labels, bases, dampings)

    def self_influence(self) -> Tensor:
        """gᵀ (C + λI)⁻¹ g of each training sample, (n,) float64."""
        total = torch.zeros(len(self.labels), dtype=torch.float64)
        for rows, gradients in self.network.gradients(self.inputs, self.labels):
            for name, basis in self.bases.items():
                total[rows] += basis.quadratics(gradients[name], self.dampings[name]).cpu()
        return total

    def mean_influence(self, reference: Reference) -> Tensor:
        """ḡᵀ (C + λI)⁻¹ g of each training sample, with ḡ the mean gradient of the reference samples, (1, n)."""
        sums: dict[str, Tensor] = {}
        for _, gradients in self._of(reference):
            for name, values in gradients.items():
                sums[name] = sums.get(name, 0) + values.double().sum(0, keepdim=True)
        return self._products({name: total / reference.n for name, total in sums.items()})

    def influences(self, reference: Reference) -> Tensor:
        """gᵀ (C + λI)⁻¹ g_i for each reference sample's g and training sample's g_i, (n_reference, n) float64."""
        row_bytes = 4 * sum(basis.values.numel() for basis in self.bases.values())
        together = max(1, REFERENCE_BYTES // row_bytes)
        return torch.cat([self._products(part) for part in _joined(self._of(reference), together)])

    def _of(self, reference: Reference) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        return self.network.gradients(reference.inputs, self.network.targets(reference.labels))

    def _products(self, gradients: Layers) -> Tensor:
        """The products of (m, c, d) reference gradients with all training samples' gradients, (m, n)."""
        solved = {
            name: basis.solved(gradients[name], self.dampings[name]).flatten(1) for name, basis in self.bases.items()
        }
        total = torch.zeros(len(next(iter(solved.values()))), len(self.labels), dtype=torch.float64)
        for rows, own in self.network.gradients(self.inputs, self.labels):
            for name, left in solved.items():
                total[:, rows] += (left @ own[name].flatten(1).to(left.dtype).T).cpu()
        return total


def _joined(parts: Iterable[tuple[slice, Layers]], most: int) -> Iterator[dict[str, Tensor]]:
    """Chunks put together to at most so many samples, or one chunk."""
    waiting: list[Layers] = []
    count = 0
    for rows, gradients in parts:
        size = rows.stop - rows.start
        if waiting and count + size > most:
            yield _cat(waiting)
            waiting, count = [], 0
        waiting.append(dict(gradients))
        count += size
    if waiting:
        yield _cat(waiting)


def _cat(parts: list[Layers]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
