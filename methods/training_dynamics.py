"""Detectors that use training dynamics: the base model's outputs for each sample at recorded moments of training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods._probabilities import margins

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True)
class Watching(Method):
    """Base of the detectors that read the recorded moments of training once, from the first to the last."""

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "training dynamics")

    @abstractmethod
    def score(self, view: View) -> np.ndarray: ...


def given_probs(view: View) -> Iterator[np.ndarray]:
    """The probability of each given label, (n,) float64, moment by moment."""
    rows, labels = np.arange(view.n), view.labels
    dynamics = view.dynamics
    for moment in range(len(dynamics)):
        yield dynamics.probs_at(moment)[rows, labels].astype(np.float64)


@register_method
@dataclass(frozen=True)
class AreaUnderMargin(Watching):
    """Minus the mean margin between the given label and the best other class, over all moments of the training.

    Args:
        margin: the quantity to take margins of: ``logits``, as in the paper, or ``probs``, as in some public
            implementations.
    """

    name: ClassVar[str] = "aum"
    title: ClassVar[str] = "AUM"
    source: ClassVar[str] = "Pleiss et al., NeurIPS 2020"

    margin: Literal["logits", "probs"] = "logits"

    def score(self, view: View) -> np.ndarray:
        labels, dynamics = view.labels, view.dynamics
        total = np.zeros(view.n)
        for moment in range(len(dynamics)):
            values = dynamics.at(moment) if self.margin == "logits" else dynamics.probs_at(moment)
            total += margins(values, labels)
        return -total / len(dynamics)


@register_method
@dataclass(frozen=True)
class DataMaps(Watching):
    """Dataset cartography: a statistic of the given label's probability over the recorded moments of training.

    Args:
        statistic: ``confidence`` is minus the mean probability of the given label. ``variability`` is the standard
            deviation of this probability. ``correctness`` is minus the share of moments at which the model predicts
            the given label.
    """

    name: ClassVar[str] = "data_maps"
    title: ClassVar[str] = "Data Maps"
    source: ClassVar[str] = "Swayamdipta et al., EMNLP 2020"

    statistic: Literal["confidence", "variability", "correctness"] = "confidence"

    def score(self, view: View) -> np.ndarray:
        if self.statistic == "correctness":
            labels, dynamics = view.labels, view.dynamics
            right = [dynamics.at(moment).argmax(1) == labels for moment in range(len(dynamics))]
            return np.asarray(-np.mean(right, axis=0))
        mean, squares = np.zeros(view.n), np.zeros(view.n)
        for count, probs in enumerate(given_probs(view), 1):  # Welford's recurrence
            change = probs - mean
            mean += change / count
            squares += change * (probs - mean)
        return -mean if self.statistic == "confidence" else np.sqrt(squares / len(view.dynamics))


@register_method
@dataclass(frozen=True)
class Forgetting(Watching):
    """How often the model's prediction changes from the given label to another one during the training.

    A sample that the model never predicts as its given label gets the highest score, the number of recorded moments.
    (The paper calls such samples unlearned and gives them infinitely many changes.)
    """

    name: ClassVar[str] = "forgetting"
    title: ClassVar[str] = "Forgetting Events"
    source: ClassVar[str] = "Toneva et al., ICLR 2019"

    def score(self, view: View) -> np.ndarray:
        labels, dynamics = view.labels, view.dynamics
        events, before = np.zeros(view.n), np.zeros(view.n, dtype=bool)
        learned = before.copy()
        for moment in range(len(dynamics)):
            right = dynamics.at(moment).argmax(1) == labels
            events += before & ~right
            learned |= right
            before = right
        return np.where(learned, events, float(len(dynamics)))


@register_method
@dataclass(frozen=True)
class LossAverage(Watching):
    """The exponentially weighted average of the given label's cross-entropy over the training.

    Args:
        decay: weight of the previous average at every moment. With 0, the score is the loss at the last moment.
    """

    name: ClassVar[str] = "loss_ema"
    title: ClassVar[str] = "Loss, moving average"
    source: ClassVar[str] = "as compared in MLforHealth/LEMoN, lib/metrics/distance_metrics.py"

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} must be a share in [0, 1)")

    def score(self, view: View) -> np.ndarray:
        average, weight = np.zeros(view.n), 0.0
        for probs in given_probs(view):
            losses = -np.log(np.maximum(probs, np.finfo(np.float32).tiny))
            average = self.decay * average + (1 - self.decay) * losses
            weight = self.decay * weight + (1 - self.decay)
        return average / weight
