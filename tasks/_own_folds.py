"""Stratified folds, with groups that stay together."""

from __future__ import annotations

import warnings

import numpy as np

from harness.errors import RequestError


def folds_of(labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """The fold of each sample, (n,) from 0.

    A class with fewer samples than folds is spread over as many folds as it has samples.

    Args:
        labels: class numbers, (n,).
        groups: (n,); all samples of a group are in one fold.

    Raises:
        RequestError: there are fewer samples or groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    check_folds(labels, groups, folds)
    seed %= 2**32
    if groups is None:
        return _stratified(labels, folds, np.random.default_rng(seed))
    fold = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer samples than folds
        for k, (_, held) in enumerate(splitter.split(labels, labels, groups)):
            fold[held] = k
    return fold


def _stratified(labels: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Each class's samples, in random order, are dealt out in turn; each class goes on where the last one ended.

    scikit-learn's StratifiedKFold refuses data in which every class has fewer samples than folds.
    """
    order = np.lexsort((rng.random(len(labels)), labels))
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def check_folds(labels: np.ndarray, groups: np.ndarray | None, folds: int) -> None:
    """Raise a `RequestError` if there are fewer samples or groups than folds, or if no class has two samples."""
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < folds:
        what = "samples" if groups is None else "groups"
        raise RequestError(f"folds={folds} needs {folds} {what}, and there are {units}; give fewer folds")
    if np.bincount(labels).max() < 2:
        raise RequestError("every class has one sample, so no model can learn from the others; give more samples")
