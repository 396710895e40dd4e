"""Cleanlab's three label-quality scores, from labels and class probabilities alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.method_base import Method, register_method

if TYPE_CHECKING:
    from harness.view import View


@dataclass(frozen=True)
class LabelQuality(Method):
    """One minus a cleanlab label-quality score.

    Args:
        labels: whose quality is scored. Cleanlab documents the given labels; with the model's own predictions the
            score measures how unsure the model is, and says nothing about the labels.
        probs: the trained model's probabilities, or those of models that did not see the sample (cross-validation).
    """

    requires: ClassVar[tuple[str, ...]] = ("cleanlab.rank",)
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"labels": "predicted"}}

    labels: Literal["given", "predicted"] = "given"
    probs: Literal["in_sample", "out_of_sample"] = "in_sample"

    @property
    def uses(self) -> tuple[str, ...]:
        looked_at = ("labels", "probs") if self.labels == "given" else ("probs",)
        return (*looked_at, "retraining") if self.probs == "out_of_sample" else looked_at

    def score(self, view: View) -> np.ndarray:
        from cleanlab.rank import get_label_quality_scores

        probs = view.probs if self.probs == "in_sample" else view.out_of_sample_probs
        labels = view.labels if self.labels == "given" else probs.argmax(1)
        return 1 - np.asarray(get_label_quality_scores(labels, probs, method=self.name, adjust_pred_probs=False))


@register_method
@dataclass(frozen=True)
class NormalizedMargin(LabelQuality):
    """Probability of the label against the largest probability of another class."""

    name: ClassVar[str] = "normalized_margin"
    title: ClassVar[str] = "Normalized Margin"
    source: ClassVar[str] = "Northcutt et al., JAIR 2021; cleanlab"


@register_method
@dataclass(frozen=True)
class SelfConfidence(LabelQuality):
    """Probability that the model gives to the label."""

    name: ClassVar[str] = "self_confidence"
    title: ClassVar[str] = "Self-Confidence"
    source: ClassVar[str] = "Müller & Markert, IJCNN 2019; cleanlab"


@register_method
@dataclass(frozen=True)
class ConfidenceWeightedEntropy(LabelQuality):
    """Entropy of the probabilities over the probability of the label."""

    name: ClassVar[str] = "confidence_weighted_entropy"
    title: ClassVar[str] = "Confidence Entropy"
    source: ClassVar[str] = "Kuan & Mueller, ICML DataPerf workshop 2022; cleanlab"
