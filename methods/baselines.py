"""The bounds of every comparison: no trimming, random trimming, and trimming of what is wrong in truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.interfaces.method import Method, TruthControl
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class NoTrimming(Method):
    """No sample is flagged or removed, so the result is that of the base model, trained on all samples."""

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "No trimming"
    source: ClassVar[str] = "the first row of each of the paper's tables"
    trims: ClassVar[bool] = False

    @property
    def uses(self) -> tuple[str, ...]:
        return ()

    def score(self, view: View) -> np.ndarray:
        return np.zeros(view.n)


@register_method
@dataclass(frozen=True)
class Random(Method):
    """Random scores. Every detector must beat this method, because removing random samples also changes the model."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"
    source: ClassVar[str] = "control"

    @property
    def uses(self) -> tuple[str, ...]:
        return ()

    def score(self, view: View) -> np.ndarray:
        return view.rng.random(view.n)

    def attribute(self, view: View) -> np.ndarray:
        return view.rng.random((view.reference("test").n, view.n))


@register_method
@dataclass(frozen=True)
class Oracle(TruthControl):
    """The truth: wrong labels in random order, then right labels in random order. What a perfect detector would give.

    Ties are broken at random, so a budget below the share of wrong labels removes a random part of the wrong labels.
    """

    name: ClassVar[str] = "oracle"
    title: ClassVar[str] = "Oracle (control)"
    source: ClassVar[str] = "control"

    def score_truth(self, wrong: np.ndarray) -> np.ndarray:
        return wrong.astype(np.float64)
