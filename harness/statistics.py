"""Mean and spread over seeds, and paired differences with a bootstrap confidence interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.seeds import derive

SEEDS_FOR_P = 6
"""With fewer pairs a sign-flip test cannot reach 5 %, so no p-value is given."""


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n − 1) over seeds; the deviation is None for one seed."""

    mean: float
    std: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """A paired difference: mean, percentile-bootstrap confidence interval, and a two-sided p-value or None."""

    mean: float
    low: float
    high: float
    p_value: float | None
    count: int


def summarise(values: np.ndarray) -> Summary:
    """Mean and standard deviation of values, (k ≥ 1,)."""
    values = np.asarray(values, dtype=np.float64)
    return Summary(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, confidence: float = 0.95, resamples: int = 10_000
) -> Difference:
    """The mean of ``ours − theirs`` over pairs, with its bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    The p-value comes from the sign-flip permutation test of the mean: exact up to 12 pairs, sampled beyond, and None
    below `SEEDS_FOR_P` pairs.

    Args:
        ours: (k,), one value a seed.
        theirs: (k,), in the same order of seeds.
        confidence: coverage of the interval.
        resamples: bootstrap samples; their seed is fixed, so the interval is reproducible.

    Raises:
        ValueError: no pair, or different lengths.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape != theirs.shape or ours.ndim != 1 or len(ours) == 0:
        raise ValueError(f"paired differences need two equally long lists; given {ours.shape} and {theirs.shape}")
    differences = ours - theirs
    k = len(differences)
    rng = np.random.default_rng(derive("bootstrap", k))
    means = differences[rng.integers(k, size=(resamples, k))].mean(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(differences.mean()), float(low), float(high), _sign_flip(differences, rng), k)


def _sign_flip(differences: np.ndarray, rng: np.random.Generator) -> float | None:
    k = len(differences)
    if k < SEEDS_FOR_P:
        return None
    if k <= 12:
        signs = 1 - 2 * ((np.arange(2**k)[:, None] >> np.arange(k)) & 1)
    else:
        signs = rng.choice([-1, 1], size=(10_000, k))
    reached = np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12)
    return float(reached.mean()) if k <= 12 else float((reached.sum() + 1) / (len(signs) + 1))
