"""Data-OOB: how often models that did not train on a sample get its given label wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class OutOfBag(Method):
    """The share of bagged models, among those not trained on the sample, that predict another class than its label.

    A bag is the set of distinct samples of one bootstrap draw, about 63 % of the training samples. (The paper also
    weights each sample by how often the sample was drawn.)

    Args:
        n_models: number of bags.
    """

    name: ClassVar[str] = "data_oob"
    title: ClassVar[str] = "Data-OOB"
    source: ClassVar[str] = "Kwon & Zou, ICML 2023"

    n_models: int = 50

    def __post_init__(self) -> None:
        if self.n_models < 2:
            raise ValueError(f"n_models={self.n_models} must be at least 2")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "retraining")

    def score(self, view: View) -> np.ndarray:
        n, labels, rng = view.n, view.labels, view.rng
        keeps = np.zeros((self.n_models, n), dtype=bool)
        for keep in keeps:
            keep[rng.integers(0, n, n)] = True
        if not (~keeps).any(0).all():
            missing = int((~(~keeps).any(0)).sum())
            raise Unsupported(
                f"{missing} samples are in every bag, so no model can judge them; give more than "
                f"n_models={self.n_models}"
            )
        wrong = np.zeros(n)
        for keep, retrained in zip(keeps, view.retrained(keeps), strict=True):
            wrong += ~keep & (retrained.predictions != labels)
        return np.asarray(wrong / (~keeps).sum(0))
