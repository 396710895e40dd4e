"""Detectors that set their own threshold, from labels and out-of-sample class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods._probabilities import margins, probs_of, word_for

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True)
class OnProbabilities(Method):
    """Base of the detectors that flag by class probabilities.

    Args:
        probs: ``out_of_sample`` takes each sample's probabilities from models that did not train on the sample, by
            cross-validation. ``in_sample`` takes the trained model's own probabilities.
    """

    probs: Literal["out_of_sample", "in_sample"] = "out_of_sample"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", word_for(self.probs))


@register_method
@dataclass(frozen=True)
class ConfidentLearning(OnProbabilities):
    """Cleanlab's label issues: flags from the confident joint, the estimated joint counts of given and true labels.

    The score is one minus cleanlab's label quality. The flagged samples are not always those with the highest scores.

    Args:
        filter_by: the cleanlab filter that decides which samples are flagged.
        quality: the cleanlab label-quality score.
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

        quality = get_label_quality_scores(
            view.labels, probs_of(view, self.probs), method=self.quality, adjust_pred_probs=False
        )
        return 1 - np.asarray(quality)

    def flag(self, view: View, scores: np.ndarray) -> Flags:
        from cleanlab.count import num_label_issues
        from cleanlab.filter import find_label_issues

        labels, probs = view.labels, probs_of(view, self.probs)
        flagged = find_label_issues(labels, probs, filter_by=self.filter_by, n_jobs=1)
        estimated = num_label_issues(labels, probs, estimation_method="off_diagonal_calibrated")
        return Flags(np.asarray(flagged), float(estimated))


@register_method
@dataclass(frozen=True)
class ArgmaxDisagrees(OnProbabilities):
    """Flags a sample if another class is more probable than its given label.

    The score is the largest probability of another class minus the probability of the given label. So flagged samples
    have positive scores.
    """

    name: ClassVar[str] = "argmax_disagrees"
    title: ClassVar[str] = "Argmax disagrees"
    source: ClassVar[str] = "the plain rule behind cleanlab's predicted_neq_given"

    def score(self, view: View) -> np.ndarray:
        return -margins(probs_of(view, self.probs), view.labels)

    def flag(self, view: View, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores > 0)
