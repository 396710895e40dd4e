"""Files of arrays, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits


def data() -> dict[str, np.ndarray]:
    """Digits: 300 training samples of which 30 are wrongly labelled, validation and test."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    given = y[:300].copy()
    given[:30] = (given[:30] + 1) % 10
    return {
        "features": x[:300],
        "labels": given,
        "true_labels": y[:300],
        "validation_features": x[300:450],
        "validation_labels": y[300:450],
        "test_features": x[450:],
        "test_labels": y[450:],
    }


def save(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)
