"""Leave-one-out by retraining: the exact effect that influence functions approximate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.interfaces.uses import of_reference
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View

MOST_SAMPLES = 2000
"""Largest number of training samples. The method trains one model per sample, which takes too long for more."""


@register_method
@dataclass(frozen=True)
class LeaveOneOut(Method):
    """The reference loss of the model minus the reference loss of a model that is retrained without the sample.

    Both models are trained from the same initial weights.

    Args:
        reference: the samples whose loss is used: clean ``validation``, ``noisy_validation``, ``train`` or ``test``.
    """

    name: ClassVar[str] = "leave_one_out"
    title: ClassVar[str] = "Leave-one-out (retraining)"
    source: ClassVar[str] = "Cook & Weisberg 1982"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train"}}

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "retraining", *of_reference(self.reference))

    def score(self, view: View) -> np.ndarray:
        losses = view.retrain(self._keeps(view), self.reference)
        return np.asarray(losses[-1] - losses[:-1])

    def attribute(self, view: View) -> np.ndarray:
        losses = view.retrained_losses(self._keeps(view), self.reference)
        return np.asarray((losses[-1] - losses[:-1]).T)

    def _keeps(self, view: View) -> np.ndarray:
        """All samples but one, for each sample; then all samples, (n + 1, n) bool."""
        if view.n > MOST_SAMPLES:
            raise Unsupported(
                f"leave_one_out retrains once for each sample, for {MOST_SAMPLES} samples at most; here are {view.n}"
            )
        if view.n < 2:
            raise Unsupported("leave_one_out needs at least two training samples; here is one")
        keeps = np.ones((view.n + 1, view.n), dtype=bool)
        keeps[np.arange(view.n), np.arange(view.n)] = False
        return keeps
