"""Gradients as points for detectors of outliers: as they are, or by sparse random projection (Li et al., KDD 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from harness.gradients import Gradients


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
