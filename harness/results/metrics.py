"""Detection metrics of scores and flags against the truth."""

from __future__ import annotations

import numpy as np

HIGHER_IS_BETTER: dict[str, bool] = {
    "detection_accuracy": True,
    "precision": True,
    "recall": True,
    "auroc": True,
    "average_precision": True,
    "accuracy_base": True,
    "accuracy": True,
    "accuracy_gain": True,
    "accuracy_best_epoch": True,
    "accuracy_by_epoch": True,
    "class_detection_auc": True,
    "class_detection_recall": True,
    "class_detection_auc_std": False,
    "class_detection_recall_std": False,
    "class_detection_recall_absolute": True,
    "class_detection_recall_absolute_std": False,
    "loss": False,
    "loss_before": False,
    "loss_by_epoch": False,
}
"""Every metric's direction; a metric that is not listed is taken as higher = better."""

COSTS = ("score_seconds", "extract_seconds", "total_seconds", "train_seconds", "retrain_seconds", "peak_memory_mib")
"""What a cell cost, which may be compared like a metric; lower is better."""


def detection(scores: np.ndarray, mask: np.ndarray, noisy: np.ndarray) -> dict[str, float]:
    """Detection metrics of flags and scores against the truly noisy samples, as fractions.

    ``auroc`` and ``average_precision`` are left out when all samples or none are noisy, ``precision`` when nothing is
    flagged, ``recall`` when nothing is noisy: they do not exist then.

    Args:
        scores: (n,) floats; NaN counts as the lowest score.
        mask: flagged samples, (n,) bool.
        noisy: truly noisy samples, (n,) bool.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    hits = int((mask & noisy).sum())
    metrics = {"detection_accuracy": float((mask == noisy).mean())}
    if mask.any():
        metrics["precision"] = hits / int(mask.sum())
    if noisy.any():
        metrics["recall"] = hits / int(noisy.sum())
    if noisy.any() and not noisy.all():
        ranks = _finite_ranks(scores)
        metrics["auroc"] = float(roc_auc_score(noisy, ranks))
        metrics["average_precision"] = float(average_precision_score(noisy, ranks))
    return metrics


def _finite_ranks(scores: np.ndarray) -> np.ndarray:
    """Scores as dense ranks: order and ties kept, infinities and NaN (lowest) made harmless."""
    return np.unique(np.where(np.isnan(scores), -np.inf, scores), return_inverse=True)[1]
