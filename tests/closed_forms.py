"""Gradients, Hessians and damping by their definitions, for tests of methods."""

from __future__ import annotations

import numpy as np

SHAPES = [(40, 2, 3), (25, 4, 5), (6, 3, 7)]  # the last has more parameters than samples


def brute(arrays: dict[str, np.ndarray], bias: bool, prefix: str = "") -> np.ndarray:
    """Gradients (n, p) by a loop over samples."""
    h, p, y = (arrays[prefix + name] for name in ("features", "probs", "labels"))
    if bias:
        h = np.hstack([h, np.ones((len(h), 1))])
    return np.stack([np.outer(p[i] - np.eye(p.shape[1])[y[i]], h[i]).ravel() for i in range(len(y))])


def lam(g: np.ndarray, damping: float | str) -> float:
    return float((g**2).mean() / 10) if damping == "auto" else float(damping)


def softmax_hessian(arrays: dict[str, np.ndarray], bias: bool) -> np.ndarray:
    """True Hessian, sample by sample."""
    h, p = arrays["features"], arrays["probs"]
    if bias:
        h = np.hstack([h, np.ones((len(h), 1))])
    total = sum(np.kron(np.diag(p[i]) - np.outer(p[i], p[i]), np.outer(h[i], h[i])) for i in range(len(p)))
    return np.asarray(total) / len(p)
