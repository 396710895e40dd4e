"""Cleanlab's three label-quality scores, from labels and class probabilities alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.interfaces.method import Method
from harness.interfaces.params import option
from harness.selection.registry import register_method
from methods._probabilities import probs_of, word_for

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True)
class LabelQuality(Method):
    """One minus a cleanlab label-quality score.

    Args:
        labels: the labels to score. Cleanlab is meant for the ``given`` labels. With ``predicted``, the model's own
            predictions, the score measures the model's uncertainty and does not depend on the given labels.
        probs: ``in_sample`` takes the trained model's probabilities. ``out_of_sample`` takes each sample's
            probabilities from models that did not train on the sample (cross-validation).
    """

    requires: ClassVar[tuple[str, ...]] = ("cleanlab.rank",)
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"labels": "predicted"}}

    labels: Literal["given", "predicted"] = "given"
    probs: Literal["in_sample", "out_of_sample"] = "in_sample"

    @property
    def uses(self) -> tuple[str, ...]:
        return (*(["labels"] if self.labels == "given" else []), word_for(self.probs))

    def seen(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """The labels (n,) and probabilities (n, c) that the parameters select."""
        probs = probs_of(view, self.probs)
        return (view.labels if self.labels == "given" else probs.argmax(1)), probs

    def score(self, view: View) -> np.ndarray:
        from cleanlab.rank import get_label_quality_scores

        labels, probs = self.seen(view)
        return 1 - np.asarray(get_label_quality_scores(labels, probs, method=self.name, adjust_pred_probs=False))


@register_method
@dataclass(frozen=True)
class NormalizedMargin(LabelQuality):
    """The label's probability minus the largest probability of another class; low margins are suspicious."""

    name: ClassVar[str] = "normalized_margin"
    title: ClassVar[str] = "Normalized Margin"
    source: ClassVar[str] = "Northcutt et al., JAIR 2021; cleanlab"


@register_method
@dataclass(frozen=True)
class SelfConfidence(LabelQuality):
    """The probability that the model gives to the label; low probabilities are suspicious."""

    name: ClassVar[str] = "self_confidence"
    title: ClassVar[str] = "Self-Confidence"
    source: ClassVar[str] = "Müller & Markert, IJCNN 2019; cleanlab"


@register_method
@dataclass(frozen=True)
class ConfidenceWeightedEntropy(LabelQuality):
    """The logarithm of r, the ratio of the probabilities' entropy to the probability of the label.

    Cleanlab's label quality is log(1 + r)/r, so one minus the quality orders samples as r does. But cleanlab clips r
    at 1e-6 in the denominator only. So samples with smaller r get the lowest quality, although their labels are the
    most certain ones.

    Args:
        clipped: whether the score is one minus cleanlab's clipped quality, as published.
    """

    name: ClassVar[str] = "confidence_weighted_entropy"
    title: ClassVar[str] = "Confidence Entropy"
    source: ClassVar[str] = "Kuan & Mueller, ICML DataPerf workshop 2022; cleanlab"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"labels": "predicted", "clipped": True}}

    clipped: bool = option(False)

    def score(self, view: View) -> np.ndarray:
        labels, probs = self.seen(view)
        logarithm = log_weighted_entropy(labels, probs)
        view.health["clipped_by_cleanlab"] = int((logarithm < np.log(SMALLEST_RATIO)).sum())
        return super().score(view) if self.clipped else logarithm


SMALLEST_RATIO = 1e-6
"""The ratio r of entropy to label probability below which cleanlab clips."""


def log_weighted_entropy(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The logarithm of r = normalised entropy / probability of the label, (n,), always finite.

    Probabilities below float64's smallest normal number are raised to that number. So r exists even for a class of
    probability 0. A sample with a confident prediction has the largest r if the label differs, else the smallest r.

    Args:
        labels: (n,) class numbers.
        probs: (n, c) float64.
    """
    floored = np.maximum(probs, np.finfo(np.float64).tiny)
    entropy = -(floored * np.log(floored)).sum(1) / np.log(probs.shape[1])
    smallest = np.finfo(np.float64).tiny
    return np.asarray(np.log(np.maximum(entropy, smallest)) - np.log(floored[np.arange(len(labels)), labels]))
