"""Detectors with a threshold of their own, from labels and out-of-sample class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True)
class OnProbabilities(Method):
    """Base of the detectors that flag by class probabilities.

    Args:
        probs: probabilities of models that did not see the sample (``out_of_sample``, by cross-validation), or the
            trained model's own (``in_sample``).
    """

    probs: Literal["out_of_sample", "in_sample"] = "out_of_sample"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "out-of-sample probabilities" if self.probs == "out_of_sample" else "probs")

    def seen(self, view: View) -> np.ndarray:
        """The probabilities that count, (n, c)."""
        return view.probs if self.probs == "in_sample" else view.out_of_sample_probs


@register_method
@dataclass(frozen=True)
class ConfidentLearning(OnProbabilities):
    """Cleanlab's label issues: flags by the confident joint of given and probable labels, scores by label quality.

    The score is one minus the label quality. Flagged samples are not always those with the highest scores.

    Args:
        filter_by: cleanlab's filter: which samples are flagged.
        quality: cleanlab's label-quality score.
    """

    name: ClassVar[str] = "confident_learning"
    title: ClassVar[str] = "Confident Learning"
    source: ClassVar[str] = "Northcutt et al., JAIR 2021; cleanlab.filter"
    requires: ClassVar[tuple[str, ...]] = ("cleanlab.filter", "cleanlab.rank")

    filter_by: Literal[
        "prune_by_noise_rate",
        "prune_by_class",
        "both",
        "confident_learning",
        "predicted_neq_given",
        "low_normalized_margin",
        "low_self_confidence",
    ] = "prune_by_noise_rate"
    quality: Literal["self_confidence", "normalized_margin"] = "self_confidence"

    def score(self, view: View) -> np.ndarray:
        from cleanlab.rank import get_label_quality_scores

        quality = get_label_quality_scores(view.labels, self.seen(view), method=self.quality, adjust_pred_probs=False)
        return 1 - np.asarray(quality)

    def flag(self, view: View, scores: np.ndarray) -> Flags:
        from cleanlab.count import num_label_issues
        from cleanlab.filter import find_label_issues

        labels, probs = view.labels, self.seen(view)
        flagged = find_label_issues(labels, probs, filter_by=self.filter_by, n_jobs=1)
        return Flags(np.asarray(flagged), float(num_label_issues(labels, probs)))


@register_method
@dataclass(frozen=True)
class ArgmaxDisagrees(OnProbabilities):
    """Flags a sample if another class is more probable than its given label.

    The score is the largest probability of another class less that of the given label, positive for flagged samples.
    """

    name: ClassVar[str] = "argmax_disagrees"
    title: ClassVar[str] = "Argmax disagrees"
    source: ClassVar[str] = "the plain rule behind cleanlab's predicted_neq_given"

    def score(self, view: View) -> np.ndarray:
        probs, rows, labels = self.seen(view), np.arange(view.n), view.labels
        others = probs.copy()
        others[rows, labels] = -np.inf
        return np.asarray(others.max(1) - probs[rows, labels])

    def flag(self, view: View, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores > 0)
