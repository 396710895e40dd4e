"""From suspicion scores to flagged samples."""

from __future__ import annotations

import numpy as np

from harness.seeds import derive


def flagged(scores: np.ndarray, budget: float, tie_seed: int) -> np.ndarray:
    """Mask of the ``round(budget · n)`` samples with the highest scores, (n,) bool.

    Equal scores are ordered by a permutation from ``tie_seed``. So the order of equal scores does not depend on the
    data order or on the sorting algorithm. NaN counts as the lowest score.

    Args:
        scores: (n,), higher = more suspicious.
        budget: share of n in [0, 1).
    """
    n = len(scores)
    count = round(budget * n)
    values = np.where(np.isnan(scores), -np.inf, scores)
    shuffled = np.random.default_rng(tie_seed).permutation(n)
    order = shuffled[np.argsort(-values[shuffled], kind="stable")]
    mask = np.zeros(n, dtype=bool)
    mask[order[:count]] = True
    return mask


def tie_seed(task: str, method: str, seed: int) -> int:
    """The seed of `flagged` for a cell."""
    return derive("ties", task, method, seed)
