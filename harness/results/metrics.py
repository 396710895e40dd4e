"""Detection metrics of scores and flags against the truth."""

from __future__ import annotations

import numpy as np

from harness.interfaces.flags import Flags

HIGHER_IS_BETTER: dict[str, bool] = {
    "detection_accuracy": True,
    "precision": True,
    "recall": True,
    "auroc": True,
    "average_precision": True,
    "precision_at_errors": True,
    "found_area": True,
    "lift_100": True,
    "auroc_within_class": True,
    "own_precision": True,
    "own_recall": True,
    "own_f1": True,
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


FIRST = 100
"""Samples that ``lift_100`` looks at."""


def detection(scores: np.ndarray, flagged: np.ndarray, noisy: np.ndarray) -> dict[str, float]:
    """Metrics of the budget's flags and of the scores against the truly noisy samples, as fractions.

    A metric that does not exist is left out: ``precision`` where nothing is flagged, ``recall`` where nothing is noisy,
    and the metrics of the scores where all samples or none are noisy. Equal scores count as all their orders do on
    average; NaN counts as the lowest score.

    Args:
        scores: (n,) floats, higher = more suspicious.
        flagged: the budget's share with the highest scores, (n,) bool.
        noisy: truly noisy samples, (n,) bool.

    Returns:
        ``detection_accuracy``, ``precision``, ``recall``, ``auroc``, ``average_precision``, and:

        - ``precision_at_errors``: precision when as many samples are flagged as are noisy (arXiv 2510.16211).
        - ``found_area``: area under the share of noisy samples found against the share of samples inspected, most
          suspicious first. Random scores have 0.5.
        - ``lift_100``: how many times more noisy samples are among the first 100 than among 100 random ones. It is left
          out below 100 samples.
    """
    hits = int((flagged & noisy).sum())
    metrics = {"detection_accuracy": float((flagged == noisy).mean())}
    if flagged.any():
        metrics["precision"] = hits / int(flagged.sum())
    if noisy.any():
        metrics["recall"] = hits / int(noisy.sum())
    if noisy.any() and not noisy.all():
        metrics |= _of_scores(scores, noisy)
    return metrics


def _of_scores(scores: np.ndarray, noisy: np.ndarray) -> dict[str, float]:
    n, errors = len(noisy), int(noisy.sum())
    seen, found = _inspected(scores, noisy)
    auroc = _auroc(_ranks(scores), noisy)
    metrics = {
        "auroc": auroc,
        "average_precision": float(np.sum(np.diff(found, prepend=0) * found / seen) / errors),
        "precision_at_errors": _among_first(errors, seen, found) / errors,
        "found_area": errors / n / 2 + (1 - errors / n) * auroc,  # at share x: errors' part is recall, the rest FPR
    }
    if n >= FIRST:
        metrics["lift_100"] = _among_first(FIRST, seen, found) / FIRST / (errors / n)
    return metrics


def _inspected(scores: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of samples inspected and of noisy ones among them, at the end of each group of equal scores."""
    ranks = _ranks(scores)
    order = np.argsort(-ranks, kind="stable")
    ends = np.flatnonzero(np.diff(ranks[order], append=-1))
    return ends + 1, np.cumsum(noisy[order])[ends]


def _among_first(k: int, seen: np.ndarray, found: np.ndarray) -> float:
    """Noisy samples among the first k, where a group of equal scores counts by its share."""
    return float(np.interp(k, np.concatenate([[0], seen]), np.concatenate([[0], found])))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Scores as dense ranks from 0: order and ties kept, infinities and NaN (lowest) made harmless."""
    return np.unique(np.where(np.isnan(scores), -np.inf, scores), return_inverse=True)[1]


def _auroc(ranks: np.ndarray, noisy: np.ndarray) -> float:
    """Share of the pairs (noisy, right) in which the noisy sample has the higher rank, ties as half."""
    from scipy.stats import rankdata

    errors, others = int(noisy.sum()), int((~noisy).sum())
    return float((rankdata(ranks)[noisy].sum() - errors * (errors + 1) / 2) / (errors * others))


def within_class(scores: np.ndarray, noisy: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``auroc_within_class``: the mean AUROC among the samples of each given label.

    One order over all samples can hide that scores of different classes lie at different heights. Classes with noisy
    samples alone, or with none, are left out; the metric is left out if no class remains.

    Args:
        scores, noisy: as for `detection`.
        labels: the given labels, (n,).
    """
    ranks = _ranks(scores)
    members = [labels == c for c in np.unique(labels)]
    aurocs = [_auroc(ranks[m], noisy[m]) for m in members if 0 < noisy[m].sum() < m.sum()]
    return {"auroc_within_class": float(np.mean(aurocs))} if aurocs else {}


def of_own_flags(own: Flags, noisy: np.ndarray) -> dict[str, float]:
    """Metrics of the samples that a method flags of its own accord.

    Returns:
        ``own_flagged`` and ``estimated_errors`` (shares of all samples), ``own_precision`` where something is flagged,
        and where something is noisy ``own_recall`` and ``own_f1``.
    """
    hits, count, errors = int((own.flagged & noisy).sum()), int(own.flagged.sum()), int(noisy.sum())
    metrics = {"own_flagged": count / len(noisy), "estimated_errors": own.estimated_errors / len(noisy)}
    if count:
        metrics["own_precision"] = hits / count
    if errors:
        metrics |= {"own_recall": hits / errors, "own_f1": 2 * hits / (count + errors)}
    return metrics
