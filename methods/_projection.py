"""Gradients as input of outlier detectors: unchanged, or after sparse random projection (Li et al., KDD 2006)."""

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
        raise ValueError("gradients are not finite (NaN or infinity), so a detector would rank samples by chance")
    return points


SMALL = 2.0**-7
"""If every gradient norm is below this number, the gradients are scaled up before the detector sees them.

The reason: scikit-learn's trees treat a column that varies by less than 1e-7 as constant. Other detectors have
absolute bandwidths and lower bounds as well.
"""


def scale_for_detectors(gradients: Gradients) -> float:
    """The factor for gradients before a detector: 1 if the largest norm is 0 or at least `SMALL`.

    Otherwise the factor is the power of two that brings the largest norm into [1, 2). A power of two changes no
    digit of a float. The splits of an isolation forest do not depend on the scale.
    """
    longest = float(gradients.norm(2, precise=False).max(initial=0))
    if not 0 < longest < SMALL:
        return 1.0
    return float(2.0 ** -np.floor(np.log2(longest)))
