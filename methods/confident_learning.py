"""Detectors that set their own threshold, from labels and out-of-sample class probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.interfaces.params import option
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

    With two rounds, the cross-validation is done again on the samples that the first round did not flag, so that no
    wrong label that was found teaches a model. The second round's probabilities of all samples give scores and flags.
    The number of flags is the estimate of the number of wrong labels. The estimate has bounds: the samples that both
    rounds flag, and the samples for which the second round's models prefer another class, each with the 95 % interval
    of Clopper and Pearson. With one round, the estimate is cleanlab's.

    Args:
        filter_by: the cleanlab filter that decides which samples are flagged.
        quality: the cleanlab label-quality score.
        rounds: how often models are cross-validated. A second round needs ``probs=out_of_sample``.
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
    rounds: Literal[1, 2] = option(1)

    def __post_init__(self) -> None:
        if self.rounds == 2 and self.probs != "out_of_sample":
            raise ValueError("rounds=2 needs probs=out_of_sample, because models are cross-validated again")

    def score(self, view: View) -> np.ndarray:
        from cleanlab.rank import get_label_quality_scores

        quality = get_label_quality_scores(
            view.labels, self._seen(view)[0], method=self.quality, adjust_pred_probs=False
        )
        return 1 - np.asarray(quality)

    def flag(self, view: View, scores: np.ndarray) -> Flags:
        from cleanlab.count import num_label_issues

        labels = view.labels
        probs, before = self._seen(view)
        flagged = self._flagged(labels, probs)
        if before is None:
            estimated = num_label_issues(labels, probs, estimation_method="off_diagonal_calibrated")
            return Flags(flagged, float(estimated), probs=probs)
        count = float(flagged.sum())
        low, _ = counted(int((flagged & before).sum()), len(labels))
        _, high = counted(int((probs.argmax(1) != labels).sum()), len(labels))
        return Flags(flagged, count, (np.floor(min(low, count)), np.ceil(max(high, count))), probs)

    def _seen(self, view: View) -> tuple[np.ndarray, np.ndarray | None]:
        """The probabilities (n, c) of the last round, and what the first of two rounds flags, (n,) bool."""
        probs = probs_of(view, self.probs)
        if self.rounds == 1:
            return probs, None
        before = self._flagged(view.labels, probs)
        return view.out_of_sample_without(before), before

    def _flagged(self, labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
        from cleanlab.filter import find_label_issues

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "May not flag all label issues")  # true of every class of few samples
            return np.asarray(find_label_issues(labels, probs, filter_by=self.filter_by, n_jobs=1))


def counted(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson of a binomial count, in samples."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(0.95, method="exact")
    return n * float(interval.low), n * float(interval.high)


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
