"""How often the training samples influential for a test sample have its class (Kwon et al., ICLR 2024)."""

from __future__ import annotations

import numpy as np


def class_detection(attribution: np.ndarray, train_classes: np.ndarray, test_classes: np.ndarray) -> dict[str, float]:
    """AUC and recall of "same class" by influence, their mean and standard deviation over the test samples.

    The training sample with the smallest signed value helps most and counts as the most influential. The published
    recall of the influence functions uses the largest absolute values, while the published AUC uses signed values.
    That recall is ``class_detection_recall_absolute``. Equal values count as half a success in the AUC. In the
    recall, equal values count as the average over all their orders. Missing values count as the least influential. A
    test sample is left out if no training sample or every training sample has its class.

    Args:
        attribution: how much each training sample harms each test sample, (n_test, n_train).
        train_classes, test_classes: (n_train,) and (n_test,).

    Returns:
        ``class_detection_auc``, ``class_detection_recall`` and ``class_detection_recall_absolute``, and each with
        ``_std`` (over test samples, divided by their number). Recall is the share of a class's k training samples
        among the k most influential. Empty if all test samples are left out.
    """
    from scipy.stats import rankdata

    same = test_classes[:, None] == train_classes[None, :]
    members = same.sum(1)
    counted = (members > 0) & (members < same.shape[1])
    if not counted.any():
        return {}
    helpful = np.where(np.isnan(attribution), -np.inf, -attribution.astype(np.float64))[counted]
    same, members = same[counted], members[counted]
    ranks = rankdata(helpful, axis=1)
    others = same.shape[1] - members
    auc = ((ranks * same).sum(1) - members * (members + 1) / 2) / (members * others)
    large = np.where(np.isnan(attribution), -np.inf, np.abs(attribution.astype(np.float64)))[counted]
    by_sample = {
        "class_detection_auc": auc,
        "class_detection_recall": np.array([_recall(*row) for row in zip(helpful, same, members, strict=True)]),
        "class_detection_recall_absolute": np.array([_recall(*row) for row in zip(large, same, members, strict=True)]),
    }
    means = {name: float(values.mean()) for name, values in by_sample.items()}
    return means | {f"{name}_std": float(values.std()) for name, values in by_sample.items()}


def _recall(helpful: np.ndarray, same: np.ndarray, members: int) -> float:
    """Share of the class among the ``members`` most helpful samples. Ties at the edge count by their share."""
    edge = np.partition(helpful, -members)[-members]
    above, tied = helpful > edge, helpful == edge
    left = members - int(above.sum())
    return float((same[above].sum() + left * same[tied].mean()) / members)
