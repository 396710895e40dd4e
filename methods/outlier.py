"""Outlier gradient analysis: samples whose gradients are outliers are scored as harmful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods._projection import finite, projection, scale_for_detectors

if TYPE_CHECKING:
    from harness.gradients.blocks import Block
    from harness.gradients.gradients import Gradients
    from harness.interfaces.view import View

WHOLE_BYTES = 2**30
"""All points are built at once up to this size in float32, where the trees together draw every point."""

PROJECTED_BEYOND = 10_000
"""``projection="auto"`` projects gradients with more numbers per sample than this (CIFAR-100's head has 51,200)."""


@dataclass(frozen=True)
class GradientNorm(Method):
    """Base of the methods whose score is a norm of the per-sample gradient.

    Args:
        layers: the layers to take gradients of: ``last`` (as published), ``all``, or a glob over the names of
            gradient blocks.
    """

    order: ClassVar[int]
    source: ClassVar[str] = "Chhabra et al., ICML 2025, section 3.3"

    layers: str = "last"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def score(self, view: View) -> np.ndarray:
        return view.gradients_of(self.layers).norm(self.order, precise=False)


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
    """Isolation forest on the per-sample gradients: scikit-learn's score with opposite sign, higher = more outlying.

    Args:
        n_estimators: number of trees.
        projection: sparse random projection of the gradients before the forest (Li et al., KDD 2006). ``auto``
            projects gradients of more than 10,000 numbers to scikit-learn's Johnson–Lindenstrauss dimension. ``none``
            never projects. An integer always projects, to that dimension.
        layers: the layers to take gradients of: ``last``, ``all``, or a glob over the names of gradient blocks.
    """

    name: ClassVar[str] = "outlier_iforest"
    title: ClassVar[str] = "Outlier Gradient (iForest)"
    source: ClassVar[str] = "Chhabra et al., ICML 2025, Algorithm 1; Liu et al., ICDM 2008"
    requires: ClassVar[tuple[str, ...]] = ("sklearn.ensemble", "sklearn.random_projection")

    n_estimators: int = 100
    projection: int | Literal["auto", "none"] = "auto"
    layers: str = "last"

    def __post_init__(self) -> None:
        if self.n_estimators < 1:
            raise ValueError(f"n_estimators={self.n_estimators} must be at least 1")
        if isinstance(self.projection, int) and self.projection < 1:
            raise ValueError(f"projection={self.projection} must be at least 1, or auto, or none")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def attribute(self, view: View) -> np.ndarray:
        """The outlier score of each test gradient in each training class's forest, one forest per class (section 7).

        All training samples of one class get the same score.
        """
        from methods._isolation_forest import fit

        classes, test = view.classes, view.reference("test", self.layers).gradients
        gradients = view.gradients_of(self.layers)
        matrix = self._projection(gradients, view, view.n + test.n)  # fitted on both, as published
        scale = scale_for_detectors(gradients)
        seen, asked = _Points(gradients, matrix, scale), _Points(test, matrix, scale).block(slice(None))
        scores = np.empty((test.n, view.n))
        for c in np.unique(classes):
            members = np.flatnonzero(classes == c)
            rows = seen.rows(members)
            forest = fit(rows.__getitem__, len(members), seen.dimension, self.n_estimators, view.seed)
            scores[:, members] = forest.to(asked.rows([0]).device).score(asked)[:, None]
        return scores

    def score(self, view: View) -> np.ndarray:
        import torch

        from harness.gradients.blocks import DenseBlock
        from harness.gradients.products import chunks
        from methods._isolation_forest import MAX_SAMPLES, fit

        gradients = view.gradients_of(self.layers)
        points = _Points(gradients, self._projection(gradients, view, view.n), scale_for_detectors(gradients))
        view.health["dimension"] = points.dimension
        whole = None
        if self.n_estimators * MAX_SAMPLES >= view.n and 4 * view.n * points.dimension <= WHOLE_BYTES:
            whole = points.rows(slice(None))  # each point is drawn by several trees: it is built once for all of them
        forest = fit(points.rows, view.n, points.dimension, self.n_estimators, view.seed, whole)
        if whole is not None and view.device == "cpu":
            return forest.score(DenseBlock(torch.from_numpy(whole)))
        if view.device != "cpu":
            forest = forest.to(points.block([0]).rows([0]).device)
        parts = chunks(view.n, 64 * self.n_estimators + points.built_bytes, cached=not points.built_bytes)
        return np.concatenate([forest.score(points.block(rows)) for rows in parts])

    def _projection(self, gradients: Gradients, view: View, samples: int) -> Any:
        """The (k, p) scipy matrix that projects gradients, or None.

        Args:
            samples: the number of samples whose distances are to be preserved. scikit-learn's k depends only on this.
        """
        from sklearn.random_projection import johnson_lindenstrauss_min_dim

        p = gradients.dimension
        if self.projection == "none" or (self.projection == "auto" and p <= PROJECTED_BEYOND):
            return None
        view.health["projected_from"] = p
        k = self.projection if isinstance(self.projection, int) else johnson_lindenstrauss_min_dim(samples, eps=0.1)
        return projection(gradients, int(k), view.seed)


@dataclass(frozen=True)
class _Points:
    """The input points of the forest: gradients, or projected gradients, times a scale."""

    gradients: Gradients
    matrix: Any
    scale: float

    @property
    def dimension(self) -> int:
        return self.gradients.dimension if self.matrix is None else int(self.matrix.shape[0])

    @property
    def built_bytes(self) -> int:
        """Extra memory of `block`, in bytes per sample; 0 if the entries are computed from stored factors."""
        return 0 if self.matrix is None and len(self.gradients) == 1 else 8 * self.dimension

    def block(self, index: Any) -> Block:
        from harness.gradients.blocks import DenseBlock, OuterBlock

        gradients = self.gradients.part(index)
        block = gradients.single() if self.matrix is None else DenseBlock(gradients.project(self.matrix))
        if self.scale == 1:
            return block
        if isinstance(block, OuterBlock):
            return OuterBlock(block.residuals * self.scale, block.features)
        return DenseBlock(block.rows(slice(None)) * self.scale)

    def rows(self, index: Any) -> np.ndarray:
        return finite(self.block(index).rows(slice(None)))
