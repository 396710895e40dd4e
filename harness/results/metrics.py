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
    "lds": True,
    "lds_ceiling": True,
    "flips": True,
    "loss_rise": True,
    "truth_seconds": False,
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
    order, last = _by_suspicion(scores)
    seen, found = _inspected(noisy[order], last)
    auroc = _auroc(seen, found)
    metrics = {
        "auroc": auroc,
        "average_precision": float(np.sum(np.diff(found, prepend=0) * found / seen) / errors),
        "precision_at_errors": _among_first(errors, seen, found) / errors,
        "found_area": errors / n / 2 + (1 - errors / n) * auroc,  # at share x: errors' part is recall, the rest FPR
    }
    if n >= FIRST:
        metrics["lift_100"] = _among_first(FIRST, seen, found) / FIRST / (errors / n)
    return metrics


def inspected(scores: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples inspected and noisy samples among them, from 0, at the end of each group of equal scores.

    Args:
        scores, noisy: as for `detection`.
    """
    order, last = _by_suspicion(scores)
    return tuple(np.concatenate([[0], counts]) for counts in _inspected(noisy[order], last))  # type: ignore[return-value]


def _by_suspicion(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples, most suspicious first, and whether each is the last one of its group of equal scores. NaN is lowest."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-known, kind="stable")
    return order, _ends(known[order])


def _ends(values: np.ndarray) -> np.ndarray:
    """Whether each value is the last one of its run of equal values."""
    return np.append(values[1:] != values[:-1], True)


def _inspected(noisy: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `inspected`, without the 0, for samples in the order of suspicion."""
    ends = np.flatnonzero(last)
    return ends + 1, np.cumsum(noisy)[ends]


def _among_first(k: int, seen: np.ndarray, found: np.ndarray) -> float:
    """Noisy samples among the first k, where a group of equal scores counts by its share."""
    return float(np.interp(k, np.concatenate([[0], seen]), np.concatenate([[0], found])))


def _auroc(seen: np.ndarray, found: np.ndarray) -> float:
    """Share of the pairs (noisy, right) in which the noisy sample has the higher score, ties as half."""
    right = seen - found
    after = right[-1] - right  # right samples with a lower score than the group's
    pairs = np.diff(found, prepend=0) * (after + np.diff(right, prepend=0) / 2)
    return float(pairs.sum() / (float(found[-1]) * float(right[-1])))


def within_class(scores: np.ndarray, noisy: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``auroc_within_class``: the mean AUROC among the samples of each given label.

    One order over all samples can hide that scores of different classes lie at different heights. Classes with noisy
    samples alone, or with none, are left out; the metric is left out if no class remains.

    Args:
        scores, noisy: as for `detection`.
        labels: the given labels, (n,).
    """
    order, last = _by_suspicion(scores)
    group = np.cumsum(last) - last
    by_class = np.argsort(labels[order], kind="stable")  # by label, and within a label by suspicion
    order, group = order[by_class], group[by_class]
    given = labels[order]
    ends = np.flatnonzero(_ends(given) | _ends(group))
    found = np.cumsum(noisy[order])[ends]
    right = ends + 1 - found
    starts = np.flatnonzero(np.append(True, given[ends][1:] != given[ends][:-1]))
    wrongs, rights = np.diff(found, prepend=0), np.diff(right, prepend=0)
    n_wrong, n_right = np.add.reduceat(wrongs, starts), np.add.reduceat(rights, starts)
    after = np.repeat(np.cumsum(n_right), np.diff(starts, append=len(ends))) - right
    pairs = np.add.reduceat(wrongs * (after + rights / 2), starts)
    both = (n_wrong > 0) & (n_right > 0)
    return {"auroc_within_class": float(np.mean(pairs[both] / (n_wrong * n_right)[both]))} if both.any() else {}


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
