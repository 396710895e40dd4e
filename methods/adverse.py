"""Detectors that compare a sample's gradient with the gradients of other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.gradients.gradients import Gradients
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class AdverseGradient(Method):
    """AGRA: minus the cosine between a sample's gradient and the mean gradient of random batches of samples.

    The paper computes the cosine in every training step. This method computes the cosine at every checkpoint, and
    averages. Once the model has fitted the right labels, the mean gradient is that of the wrong labels, and the
    order of the scores turns round.

    Args:
        batch: samples per batch.
        batches: number of batches that each sample is compared with at each checkpoint.
        layers: the layers to take gradients of: ``all``, ``last``, or a glob over the names of gradient blocks.
    """

    name: ClassVar[str] = "agra"
    title: ClassVar[str] = "AGRA"
    source: ClassVar[str] = "Sedova et al., ECML PKDD 2023 (arXiv 2306.04502)"

    batch: int = 128
    batches: int = 10
    layers: str = "all"

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batches < 1:
            raise ValueError(f"batch={self.batch} and batches={self.batches} must be at least 1")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients", "checkpoints")

    def score(self, view: View) -> np.ndarray:
        rng, n = view.rng, view.n
        size = min(self.batch, n)
        total = np.zeros(n)
        checkpoints = view.checkpoints
        for checkpoint in checkpoints:
            weights = np.zeros((n, self.batches))
            for column in weights.T:
                column[rng.permutation(n)[:size]] = 1 / size
            total += cosines(checkpoint.view.gradients_of(self.layers), weights).mean(1)
        return -total / len(checkpoints)


def cosines(gradients: Gradients, weights: np.ndarray) -> np.ndarray:
    """Cosines of each sample's gradient with weighted sums of gradients, (n, m); 0 where a norm is 0.

    Args:
        weights: (n, m), one sum per column.
    """
    import torch

    products, lengths = np.zeros(weights.shape), np.zeros(weights.shape[1])
    for block in gradients.values():
        sums = block.rmatvec(torch.from_numpy(weights).to(block.rows(slice(0)).device))
        products += block.matvec(sums).cpu().numpy()
        lengths += sums.square().sum(0).cpu().numpy()
    scale = gradients.norm(2).astype(np.float64)[:, None] * np.sqrt(lengths)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
