"""Datamodels: a linear model of the loss in which samples a model was trained on, fitted to many retrainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.interfaces.method import Method
from harness.interfaces.uses import of_reference
from harness.randomness import random_subsets
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View

ALPHAS = 10.0 ** np.arange(-2, 5.01, 0.5)
"""The penalties that are tried, for inputs of 0 and 1 less their mean."""


@register_method
@dataclass(frozen=True)
class Datamodels(Method):
    """The coefficients of a regression of reference losses on which training samples a model has learnt.

    Models are trained on random parts of the training samples. A positive coefficient says that models that learnt the
    sample have a larger loss. The penalty of each regression is chosen by cross-validation over the models. All parts
    are of one size, so coefficients of one reference sample are known up to a constant.

    Args:
        reference: the samples whose loss is used: clean ``validation``, ``noisy_validation``, ``train`` or ``test``.
        n_models: number of models. More models give better coefficients; the published number is 10⁵ and more.
        kept: the share of the training samples that each model is trained on.
        penalty: ``l2`` (ridge regression, leave-one-out over the models) or ``l1`` (the lasso, as published; five
            folds).
    """

    name: ClassVar[str] = "datamodels"
    title: ClassVar[str] = "Datamodels"
    source: ClassVar[str] = "Ilyas et al., ICML 2022, section 2"
    requires: ClassVar[tuple[str, ...]] = ("sklearn.linear_model",)
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train"}}

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"
    n_models: int = 200
    kept: float = 0.5
    penalty: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if self.n_models < 10:
            raise ValueError(f"n_models={self.n_models} must be at least 10")
        if not 0 < self.kept < 1:
            raise ValueError(f"kept={self.kept} must be a share between 0 and 1")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "retraining", *of_reference(self.reference))

    def attribute(self, view: View) -> np.ndarray:
        subsets = random_subsets(view.n, self.n_models, self.kept, view.rng)
        losses = view.retrained_losses(subsets, self.reference)
        return self._fitted(subsets.astype(np.float64), losses)

    def score(self, view: View) -> np.ndarray:
        subsets = random_subsets(view.n, self.n_models, self.kept, view.rng)
        losses = view.retrain(subsets, self.reference)
        return np.asarray(self._fitted(subsets.astype(np.float64), losses[:, None])[0])

    def _fitted(self, subsets: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Coefficients (k, n) of losses (m, k) on subsets (m, n)."""
        if self.penalty == "l2":
            from sklearn.linear_model import RidgeCV

            fitted = RidgeCV(ALPHAS, alpha_per_target=True).fit(subsets, losses)
            return np.asarray(fitted.coef_.reshape(losses.shape[1], -1))
        from sklearn.linear_model import LassoCV

        return np.asarray([LassoCV(cv=5, random_state=0).fit(subsets, column).coef_ for column in losses.T])
