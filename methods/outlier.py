"""Outlier gradient analysis: harmful samples as outliers among the per-sample gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.method_base import Method, register_method

if TYPE_CHECKING:
    from harness.view import View

PROJECTED_BEYOND = 10_000
"""``projection="auto"`` projects gradients with more numbers a sample than this (CIFAR-100's head: 51,200)."""


@dataclass(frozen=True)
class GradientNorm(Method):
    """A norm of the per-sample gradient, thresholded by the budget."""

    order: ClassVar[int]
    source: ClassVar[str] = "Chhabra et al., ICML 2025, section 3.3"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def score(self, view: View) -> np.ndarray:
        return view.gradients.norm(self.order)


@register_method
@dataclass(frozen=True)
class GradientL1(GradientNorm):
    """L1 norm of the per-sample gradient."""

    name: ClassVar[str] = "outlier_l1"
    title: ClassVar[str] = "Outlier Gradient (L1)"
    order: ClassVar[int] = 1


@register_method
@dataclass(frozen=True)
class GradientL2(GradientNorm):
    """L2 norm of the per-sample gradient."""

    name: ClassVar[str] = "outlier_l2"
    title: ClassVar[str] = "Outlier Gradient (L2)"
    order: ClassVar[int] = 2


@register_method
@dataclass(frozen=True)
class IsolationForestGradients(Method):
    """Isolation forest on the per-sample gradients: scikit-learn's, negated so that higher = more outlying.

    Args:
        n_estimators: number of trees.
        projection: sparse random projection before the forest (Li et al., KDD 2006). ``auto`` projects gradients of
            more than 10,000 numbers to scikit-learn's Johnson–Lindenstrauss dimension; ``none`` never; an integer
            always, to that many numbers.
    """

    name: ClassVar[str] = "outlier_iforest"
    title: ClassVar[str] = "Outlier Gradient (iForest)"
    source: ClassVar[str] = "Chhabra et al., ICML 2025, Algorithm 1; Liu et al., ICDM 2008"
    requires: ClassVar[tuple[str, ...]] = ("sklearn.ensemble", "sklearn.random_projection")

    n_estimators: int = 100
    projection: int | Literal["auto", "none"] = "auto"

    def __post_init__(self) -> None:
        if self.n_estimators < 1:
            raise ValueError(f"n_estimators={self.n_estimators} must be at least 1")
        if isinstance(self.projection, int) and self.projection < 1:
            raise ValueError(f"projection={self.projection} must be at least 1, or auto, or none")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def score(self, view: View) -> np.ndarray:
        from sklearn.ensemble import IsolationForest

        points = self._points(view)
        view.health["dimension"] = points.shape[1]
        forest = IsolationForest(n_estimators=self.n_estimators, random_state=view.seed).fit(points)
        return -np.asarray(forest.score_samples(points), dtype=np.float64)

    def _points(self, view: View) -> np.ndarray:
        from sklearn.random_projection import SparseRandomProjection

        gradients = view.gradients
        p = gradients.dimension
        if self.projection == "none" or (self.projection == "auto" and p <= PROJECTED_BEYOND):
            return np.asarray(gradients.rows(slice(None)).cpu().numpy())
        components = self.projection if isinstance(self.projection, int) else "auto"
        shape_only = np.broadcast_to(np.float32(0), (gradients.n, p))
        matrix = SparseRandomProjection(components, random_state=view.seed).fit(shape_only).components_
        view.health["projected_from"] = p
        return gradients.project(matrix)
