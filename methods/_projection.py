"""Gradients as points for detectors of outliers: as they are, or by sparse random projection (Li et al., KDD 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from harness.gradients.gradients import Gradients


def projection(gradients: Gradients, dimension: int, seed: int) -> Any:
    """scikit-learn's sparse random projection of whole gradients, a (dimension, p) scipy matrix."""
    from sklearn.random_projection import SparseRandomProjection

    stored = gradients.part([0]).rows([0])
    one_row = np.zeros((1, gradients.dimension), dtype=np.float64 if stored.dtype.itemsize == 8 else np.float32)
    return SparseRandomProjection(dimension, random_state=seed).fit(one_row).components_


def finite(rows: Any) -> np.ndarray:
    """Rows as a float32 array.

    Raises:
        ValueError: an entry is not finite.
    """
    points = np.asarray(rows.float().cpu().numpy())
    if not np.isfinite(points).all():
        raise ValueError("gradients are not finite, and a detector of outliers would place them by chance")
    return points


SMALL = 2.0**-7
"""Gradients whose lengths are all below it are scaled up before a detector sees them. scikit-learn's trees take columns
that vary by less than 1e-7 for constant, and other detectors have bandwidths and floors of their own."""


def scale_for_detectors(gradients: Gradients) -> float:
    """1 for gradients of an ordinary size; else the power of two that brings the longest to a length in [1, 2).

    Splits of an isolation forest do not depend on scale, and a power of two leaves every digit of a float as it is.
    """
    longest = float(gradients.norm(2, precise=False).max(initial=0))
    if not 0 < longest < SMALL:
        return 1.0
    return float(2.0 ** -np.floor(np.log2(longest)))
