"""The control for every method that sees clean validation samples: a probe trained on these samples alone."""

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
class CleanProbe(Method):
    """One minus the probability of the given label under a logistic regression on the clean validation samples.

    The inputs of the regression are the standardised last-layer features of the trained model. The regression is
    fitted to no training sample. So the method shows how many label errors the clean reference set finds by itself.

    Args:
        penalty: strength of the L2 penalty, the inverse of scikit-learn's C.
    """

    name: ClassVar[str] = "clean_probe"
    title: ClassVar[str] = "Clean probe (control)"
    source: ClassVar[str] = "a control of this harness"
    requires: ClassVar[tuple[str, ...]] = ("sklearn.linear_model",)

    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise ValueError(f"penalty={self.penalty} must be positive")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "features", "clean validation")

    def score(self, view: View) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        reference = view.reference("validation")
        if reference.features is None:
            raise Unsupported("this view has no last-layer features of its clean validation samples")
        if len(np.unique(reference.labels)) < 2:
            raise Unsupported("all clean validation samples have the same class; the probe needs two classes or more")
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1 / self.penalty, max_iter=2000))
        probe.fit(reference.features.cpu().numpy(), reference.labels)
        probs = probe.predict_proba(view.features.cpu().numpy())
        column = np.searchsorted(probe.classes_, view.labels).clip(max=len(probe.classes_) - 1)
        known = probe.classes_[column] == view.labels
        return np.asarray(1 - np.where(known, probs[np.arange(view.n), column], 0), dtype=np.float64)
