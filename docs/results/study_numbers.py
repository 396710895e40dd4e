"""What the studies' scripts share: a metric by seed and method, and means with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.results.statistics import paired_difference


def by_seed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric by seed (rows) and method's spec (columns), of the seeds and methods that are complete."""
    found = frame[frame["metric"] == metric]
    return found.pivot_table(index="seed", columns="method_spec", values="value").dropna(axis=1)


def interval(values: pd.Series | Sequence[float], digits: int, sign: bool = False) -> str:
    """A mean with the half-width of Student's 95 % interval; without the latter for a single value."""
    array = np.asarray(values, dtype=float)
    mean = paired_difference(array, np.zeros(len(array)))
    form = f"{'+' if sign else ''}.{digits}f"
    if mean.low is None or mean.high is None:
        return f"{mean.mean:{form}}"
    return f"{mean.mean:{form}} ± {(mean.high - mean.low) / 2:.{digits}f}"
