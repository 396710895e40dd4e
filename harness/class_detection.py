"""How far the training samples that are influential for a test sample are of its class (Kwon et al., ICLR 2024)."""

from __future__ import annotations

import numpy as np


def class_detection(attribution: np.ndarray, train_classes: np.ndarray, test_classes: np.ndarray) -> dict[str, float]:
    """AUC and recall of "same class" by influence, their mean and standard deviation over the test samples.

    A training sample is the more influential, the more it helps, which is the published convention: values are taken
    with their sign, and the smallest first. Equal values count as half a success in the AUC and in the recall as their
    order by chance would on average. Missing values count as the least influential. Test samples of a class that no
    training sample or every one has are left out.

    Args:
        attribution: how much each training sample harms each test sample, (n_test, n_train).
        train_classes, test_classes: (n_train,) and (n_test,).

    Returns:
        ``class_detection_auc`` and ``class_detection_recall``, and both with ``_std`` (over test samples, as NumPy
        takes it); recall is the share of a class's k training samples among the k most influential. Empty without a
        test sample that counts.
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
    recall = np.array([_recall(*row) for row in zip(helpful, same, members, strict=True)])
    return {
        "class_detection_auc": float(auc.mean()),
        "class_detection_auc_std": float(auc.std()),
        "class_detection_recall": float(recall.mean()),
        "class_detection_recall_std": float(recall.std()),
    }


def _recall(helpful: np.ndarray, same: np.ndarray, members: int) -> float:
    """Share of the class among its number of most helpful samples; ties at the edge count by their share."""
    edge = np.partition(helpful, -members)[-members]
    above, tied = helpful > edge, helpful == edge
    left = members - int(above.sum())
    return float((same[above].sum() + left * same[tied].mean()) / members)
