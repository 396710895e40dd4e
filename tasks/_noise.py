"""Ways to make given labels wrong, each from a seeded generator."""

from __future__ import annotations

import numpy as np


def flip_per_class(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Two classes: flip ``per_class`` labels of each, as in the paper's synthetic data."""
    given = labels.copy()
    for value in (0, 1):
        chosen = rng.choice(np.flatnonzero(labels == value), per_class, replace=False)
        given[chosen] = 1 - value
    return given


def symmetric(labels: np.ndarray, n_classes: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """An exact share of the labels replaced by another class, drawn uniformly."""
    given = labels.copy()
    chosen = rng.choice(len(labels), round(rate * len(labels)), replace=False)
    given[chosen] = (labels[chosen] + rng.integers(1, n_classes, len(chosen))) % n_classes
    return given


def pair(labels: np.ndarray, n_classes: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """An exact share of the labels replaced by the next class (Han et al., NeurIPS 2018)."""
    given = labels.copy()
    chosen = rng.choice(len(labels), round(rate * len(labels)), replace=False)
    given[chosen] = (labels[chosen] + 1) % n_classes
    return given


def feature_dependent(
    inputs: np.ndarray, labels: np.ndarray, n_classes: int, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Labels flipped with a probability and to a class that depend on the sample (Xia et al., NeurIPS 2020, Alg. 2).

    Each sample's flip probability is drawn around ``rate`` (standard deviation 0.1, cut to [0, 1], scaled to the mean
    ``rate``); the wrong class follows a softmax of the sample's projection by a random matrix of the sample's class.

    Args:
        inputs: (n, d) floats.
    """
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    flip = np.clip(rng.normal(rate, 0.1, len(labels)), 0, 1)
    flip = np.minimum(flip * rate / max(flip.mean(), 1e-12), 1)
    projections = rng.standard_normal((n_classes, flat.shape[1], n_classes))
    given = labels.copy()
    for i, label in enumerate(labels):
        logits = flat[i] @ projections[label]
        logits[label] = -np.inf
        wrong = np.exp(logits - logits.max())
        chances = flip[i] * wrong / wrong.sum()
        chances[label] = 1 - flip[i]
        given[i] = rng.choice(n_classes, p=chances)
    return given


def noisy_like(
    clean: np.ndarray, truth: np.ndarray, given: np.ndarray, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Clean labels made as noisy as a training set's: drawn from its empirical transition matrix P(given | true)."""
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (truth, given), 1)
    counts[counts.sum(1) == 0] = np.eye(n_classes)[counts.sum(1) == 0]
    transition = counts / counts.sum(1, keepdims=True)
    return np.array([rng.choice(n_classes, p=transition[label]) for label in clean], dtype=np.int64)
