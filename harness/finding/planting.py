"""Known label errors, planted in a copy of the given labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Ground:
    """What errors are planted in.

    Args:
        labels: given labels, (n,).
        probs: out-of-sample probabilities, (n, c).
        features: (n, d) float; None where there are none.
        free: samples whose labels may be changed, (n,) bool.
        confused: (c, c), how often a label of the second class is probably one of the first class.
    """

    labels: np.ndarray
    probs: np.ndarray
    features: np.ndarray | None
    free: np.ndarray
    confused: np.ndarray


def symmetric(ground: Ground, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random samples get a random other class."""
    chosen = _drawn(ground.free, count, rng)
    classes = np.unique(ground.labels)
    planted = ground.labels.copy()
    for k in chosen:
        planted[k] = rng.choice(classes[classes != ground.labels[k]])
    return planted


def confusion(ground: Ground, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random samples get the classes with which their class is confused, as often as the estimate says."""
    chosen = _drawn(ground.free, count, rng)
    planted = ground.labels.copy()
    for k in chosen:
        weights = ground.confused[ground.labels[k]].copy()
        weights[ground.labels[k]] = 0
        planted[k] = rng.choice(len(weights), p=weights / weights.sum())
    return planted


def boundary(ground: Ground, count: int, rng: np.random.Generator) -> np.ndarray:
    """Samples whose second class is probable get this class. The chance of a sample grows with that probability."""
    others = ground.probs.copy()
    others[np.arange(len(others)), ground.labels] = -np.inf
    second = others.argmax(1)
    weights = np.sqrt(np.clip(others.max(1), 1e-4, None)) * ground.free
    chosen = rng.choice(len(weights), count, replace=False, p=weights / weights.sum())
    planted = ground.labels.copy()
    planted[chosen] = second[chosen]
    return planted


def clusters(ground: Ground, count: int, rng: np.random.Generator) -> np.ndarray:
    """Groups of similar samples of one class get the same other class."""
    assert ground.features is not None
    planted, left = ground.labels.copy(), ground.free.copy()
    size = max(3, count // 10)
    done = 0
    while done < count and left.any():
        centre = rng.choice(np.flatnonzero(left))
        label = ground.labels[centre]
        same = np.flatnonzero(left & (ground.labels == label))
        distances = np.linalg.norm(ground.features[same] - ground.features[centre], axis=1)
        group = same[np.argsort(distances, kind="stable")[: min(size, count - done)]]
        weights = ground.confused[label].copy()
        weights[label] = 0
        planted[group] = rng.choice(len(weights), p=weights / weights.sum())
        left[group] = False
        done += len(group)
    return planted


KINDS: dict[str, Callable[[Ground, int, np.random.Generator], np.ndarray]] = {
    "symmetric": symmetric,
    "confusion": confusion,
    "boundary": boundary,
    "clusters": clusters,
}
"""The kinds of planted errors, by name."""


def confused_classes(labels: np.ndarray, probs: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """How often samples that are truly of the row's class are labelled as the column's class, (c, c), positive.

    The probably wrong labels are counted, and the probabilities of other classes are added with the weight of a few
    samples, so that a pair without a probable error has a small chance.
    """
    c = probs.shape[1]
    counts = np.zeros((c, c))
    others = probs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    np.add.at(counts, (others.argmax(1)[flagged], labels[flagged]), 1)
    spread = np.zeros((c, c))
    np.add.at(spread, labels, probs)  # a sample of the row's class looks like the column's
    present = np.bincount(labels, minlength=c) > 0
    spread *= present & ~np.eye(c, dtype=bool)
    rows = spread.sum(1, keepdims=True)
    spread = np.where(rows > 0, spread / np.where(rows > 0, rows, 1), 0)
    floor = 1e-3 * (present & ~np.eye(c, dtype=bool))
    return np.asarray(counts + 3 * spread + floor)


def _drawn(free: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.choice(np.flatnonzero(free), count, replace=False))
