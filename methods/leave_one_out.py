"""Leave-one-out by retraining: what influence functions approximate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View

MOST_SAMPLES = 2000
"""Beyond so many samples, retraining once a sample is no sensible request."""


@register_method
@dataclass(frozen=True)
class LeaveOneOut(Method):
    """Reference loss of the model minus that of one retrained, from the same start, without the sample.

    Args:
        reference: whose loss counts; see the influence methods.
    """

    name: ClassVar[str] = "leave_one_out"
    title: ClassVar[str] = "Leave-one-out (retraining)"
    source: ClassVar[str] = "Cook & Weisberg 1982"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train"}}

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"

    @property
    def uses(self) -> tuple[str, ...]:
        sees = {"validation": "clean validation", "noisy_validation": "noisy validation"}
        return ("labels", "retraining", *([sees[self.reference]] if self.reference in sees else []))

    def score(self, view: View) -> np.ndarray:
        if view.n > MOST_SAMPLES:
            raise Unsupported(f"leave_one_out retrains once a sample; {view.n} samples are more than {MOST_SAMPLES}")
        if view.n < 2:
            raise Unsupported("leave_one_out leaves nothing to train on of one sample")
        keeps = np.ones((view.n + 1, view.n), dtype=bool)
        keeps[np.arange(view.n), np.arange(view.n)] = False
        losses = view.retrain(keeps, self.reference)
        return np.asarray(losses[-1] - losses[:-1])
