"""TRAK: attribution by a linear model on randomly projected gradients of the model's output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.randomness import random_subsets
from harness.selection.registry import register_method
from methods._reference import ReferenceMethod

if TYPE_CHECKING:
    from harness.interfaces.view import View
    from methods._margins import Margins


@register_method
@dataclass(frozen=True)
class Trak(ReferenceMethod):
    """TRAK: −φ(z)ᵀ(ΦᵀΦ)⁻¹φ_i (1 − p_i) for a reference sample z.

    φ is the gradient of log(p_y/(1 − p_y)), p_y the probability of the given label, after a random projection. Φ has
    the φ_i of all training samples as rows. For several models, both factors are averaged over the models.

    Args:
        layers: ``last``; ``all`` trained linear and convolutional layers of the task's torch module; or a glob over
            the names of these layers.
        projected: the dimension that gradients of more parameters are projected to.
        n_models: 1 takes the base model. More models are each trained on a random part of the training samples.
        kept: the share of the training samples that each of several models is trained on.
    """

    name: ClassVar[str] = "trak"
    title: ClassVar[str] = "TRAK"
    source: ClassVar[str] = "Park et al., ICML 2023, section 3"

    layers: str = "last"
    projected: int = 512
    n_models: int = 1
    kept: float = 0.5

    def __post_init__(self) -> None:
        if self.projected < 1 or self.n_models < 1:
            raise ValueError(f"projected={self.projected} and n_models={self.n_models} must be at least 1")
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept={self.kept} must be a share in (0, 1]")

    @property
    def uses(self) -> tuple[str, ...]:
        plain = super().uses if self.layers == "last" else ("labels", "inputs", "model", *super().uses[2:])
        return (*plain, *(["retraining"] if self.n_models > 1 else []))

    def score(self, view: View) -> np.ndarray:
        self.refuse_class_mean()
        return np.asarray(self.sign * self._attributed(view, mean=True)[0])

    def pairwise(self, view: View) -> np.ndarray:
        return self._attributed(view, mean=False)

    def _attributed(self, view: View, mean: bool) -> np.ndarray:
        import torch

        products, doubts = None, None
        for made in self._margins(view):
            inverse = torch.linalg.pinv(made.train.T @ made.train, rtol=SMALLEST_EIGENVALUE, hermitian=True)
            reference = made.reference.mean(0, keepdim=True) if mean else made.reference
            product = reference @ inverse @ made.train.T
            products = product if products is None else products + product
            doubts = made.doubts if doubts is None else doubts + made.doubts
        assert products is not None
        assert doubts is not None
        return np.asarray((-products * doubts / self.n_models**2).cpu().numpy())

    def _margins(self, view: View) -> Iterator[Margins]:
        from methods._margins import Margins

        rng = view.rng
        if self.n_models == 1:
            yield Margins.of(view, self.layers, self.reference, self.projected, int(rng.integers(2**31)))
            return
        for retrained in view.retrained(random_subsets(view.n, self.n_models, self.kept, rng)):
            yield Margins.of(retrained, self.layers, self.reference, self.projected, int(rng.integers(2**31)))


SMALLEST_EIGENVALUE = 1e-9
"""Eigenvalues of ΦᵀΦ below this share of the largest count as zero: the last layer of a softmax has redundant weights,
and float32 gradients leave their eigenvalues at rounding errors."""
