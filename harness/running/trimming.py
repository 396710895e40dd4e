"""From suspicion scores to flagged samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.interfaces.flags import THRESHOLDS, Flags
from harness.interfaces.method import Method
from harness.interfaces.view import View
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


def flags_of(method: Method, view: View, scores: np.ndarray) -> Flags | None:
    """A method's own flags: by the threshold that its parameter names, or by its `Method.flag`.

    Returns:
        None for a method without a threshold of its own.

    Raises:
        ValueError: `Method.flag` returned something else than (n,) bool.
    """
    if method.threshold in THRESHOLDS:
        return THRESHOLDS[method.threshold](scores)
    own: Any = method.flag(view, scores)
    if own is None:
        return None
    flags = own if isinstance(own, Flags) else Flags(np.asarray(own))
    if flags.flagged.shape != (view.n,) or flags.flagged.dtype != bool:
        shape, kind = flags.flagged.shape, flags.flagged.dtype
        raise ValueError(f"{method.name}.flag returned {shape} {kind}; ({view.n},) bool was expected")
    return flags
