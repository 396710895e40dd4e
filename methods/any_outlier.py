"""Outlier gradient analysis with any outlier detector of scikit-learn, PyOD or the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods._detectors import parse
from methods._projection import finite, projection, scale_for_detectors

if TYPE_CHECKING:
    from harness.interfaces.view import View

PROJECTED_BEYOND = 1_000
PROJECTED_TO = 256
"""At this dimension, distances change by about 10 % at most for most pairs (Johnson & Lindenstrauss 1984)."""


@register_method
@dataclass(frozen=True)
class AnyOutlier(Method):
    """Any outlier detector of scikit-learn or PyOD on the per-sample gradients.

    Args:
        detector: a detector class such as ``LocalOutlierFactor``, ``ECOD`` or ``module:Class``. Parameters may follow
            in brackets: ``LocalOutlierFactor(n_neighbors=50)``. After ``fit`` the detector must have
            ``decision_scores_`` (PyOD), ``negative_outlier_factor_`` or ``score_samples`` (scikit-learn).
        projection: sparse random projection of the gradients before the detector. ``auto`` projects gradients of more
            than 1,000 numbers to 256 numbers. ``none`` never projects. An integer always projects, to that dimension.
        layers: the layers to take gradients of: ``last``, ``all``, or a glob over the names of gradient blocks.
    """

    name: ClassVar[str] = "outlier"
    title: ClassVar[str] = "Outlier Gradient (any detector)"
    source: ClassVar[str] = "Chhabra et al., ICML 2025, section 3.3; Breunig et al., SIGMOD 2000 (local outlier factor)"

    detector: str = "LocalOutlierFactor"
    projection: int | Literal["auto", "none"] = "auto"
    layers: str = "last"

    def __post_init__(self) -> None:
        parse(self.detector)
        if isinstance(self.projection, int) and self.projection < 1:
            raise ValueError(f"projection={self.projection} must be at least 1, or auto, or none")

    @property
    def full_title(self) -> str:
        return f"Outlier Gradient ({parse(self.detector).name})"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def check(self) -> None:
        parse(self.detector).load()

    def parts_version(self) -> str:
        return parse(self.detector).file_version()

    def score(self, view: View) -> np.ndarray:
        if view.n < 2:
            raise Unsupported("an outlier needs others: one sample has none")
        gradients = view.gradients_of(self.layers)
        p = gradients.dimension
        wanted = self.projection if isinstance(self.projection, int) else None
        if self.projection == "auto" and p > PROJECTED_BEYOND:
            wanted = PROJECTED_TO
        rows = gradients.rows(slice(None)) if wanted is None else gradients.project(
            projection(gradients, wanted, view.seed)
        )  # fmt: skip
        view.health["dimension"] = rows.shape[1]
        return parse(self.detector).scores(finite(rows * scale_for_detectors(gradients)), view.seed)
