"""What a method flags of its own accord, and two thresholds that any scores can be given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Flags:
    """The samples that a method takes for wrong, whatever the budget.

    Args:
        flagged: (n,) bool.
        estimated_errors: how many labels the method takes for wrong, in samples; the number of flags if left out.
        bounds: a lower and an upper bound of the number of wrong labels, where the method gives bounds.
        probs: the class probabilities that the flags come from, (n, c), where they come from some.
    """

    flagged: np.ndarray
    estimated_errors: float = -1.0
    bounds: tuple[float, float] | None = None
    probs: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.estimated_errors < 0:
            object.__setattr__(self, "estimated_errors", float(self.flagged.sum()))


def mixture(scores: np.ndarray) -> Flags:
    """Flags by a mixture of two Gaussians on the scores: one of right labels, and above it one of wrong labels.

    A sample is flagged if the upper component is the more probable one. The expected number of wrong labels is the sum
    of these probabilities. Scores are first cut off at their 0.1 % quantiles, so that no outlier makes a component
    of its own.

    Source: DivideMix (Li et al., ICLR 2020).

    Args:
        scores: (n,), higher = more suspicious; scores that are not finite are cut off at the quantiles.
    """
    from sklearn.mixture import GaussianMixture

    values = _bounded(scores)
    if len(np.unique(values)) < 2:
        return Flags(np.zeros(len(scores), dtype=bool))
    model = GaussianMixture(2, reg_covar=1e-6, max_iter=200, random_state=0).fit(values[:, None])
    low, high = np.argsort(model.means_[:, 0])
    upper = model.predict_proba(values[:, None])[:, high]
    upper[values <= model.means_[low, 0]] = 0  # below the lower mean a wide upper component would win again
    upper[values >= model.means_[high, 0]] = 1
    return Flags(upper > 0.5, float(upper.sum()))


def otsu(scores: np.ndarray) -> Flags:
    """Flags by the threshold that leaves the least variance within the two groups.

    Source: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9(1), 1979.

    Args:
        scores: (n,), higher = more suspicious; scores that are not finite are cut off at the 0.1 % quantiles.
    """
    values = _bounded(scores)
    ordered = np.sort(values)
    n = len(ordered)
    below = np.arange(1, n)  # samples under a threshold between two neighbours
    sums = np.cumsum(ordered)[:-1]
    between = (ordered.sum() * below / n - sums) ** 2 / (below * (n - below))
    between[np.diff(ordered) == 0] = -1  # no threshold fits between equal scores
    if n < 2 or between.max() <= 0:
        return Flags(np.zeros(n, dtype=bool))
    cut = int(between.argmax())
    return Flags(values > ordered[cut])


def _bounded(scores: np.ndarray) -> np.ndarray:
    """Scores cut off at their 0.1 % quantiles, standardised; NaN counts as the lowest score."""
    values = np.where(np.isnan(scores), -np.inf, scores)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(len(scores))
    low, high = np.quantile(finite, [0.001, 0.999])
    values = np.clip(values, low, high)
    spread = values.std()
    return np.asarray((values - values.mean()) / spread if spread > 0 else np.zeros(len(values)))


THRESHOLDS = {"mixture": mixture, "otsu": otsu}
