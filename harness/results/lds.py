"""The linear datamodelling score: do attributions rank models by what was left out of their training data?"""

from __future__ import annotations

import numpy as np


def lds(attribution: np.ndarray, subsets: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Spearman's correlation of predicted and actual losses over subsets, as a mean over test samples.

    The predicted loss of a subset is the sum of its samples' attributions. Attributions are harms, so the correlation
    of a good method is positive (Park et al., ICML 2023, definition 2.3). Where predictions are the same for all
    subsets, the correlation counts as 0. Attributions that are not finite count as 0.

    Args:
        attribution: how much each training sample harms each test sample, (n_test, n_train).
        subsets: which training samples each subset has, (m, n_train) bool.
        losses: the test samples' losses under models trained on the subsets, (repeats, m, n_test).

    Returns:
        ``lds``; and with two repeats or more ``lds_ceiling``, the correlation of the mean loss over one half of the
        repeats with the mean over the other half. Where it is low, the start of the training decides more than the
        subset, and no attribution can predict much.
    """
    harms = np.where(np.isfinite(attribution), attribution, 0).astype(np.float64)
    actual = losses.astype(np.float64)
    scores = {"lds": float(_correlations(harms @ subsets.T, actual.mean(0).T).mean())}
    half = len(actual) // 2
    if half:
        scores["lds_ceiling"] = float(_correlations(actual[:half].mean(0).T, actual[half:].mean(0).T).mean())
    return scores


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of one matrix with the same row of another; 0 where a row is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(matrix, axis=1) for matrix in (one, other)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    products = (centred[0] * centred[1]).sum(1)
    lengths = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
