"""The content of Figure 1: data in the plane, stored scores, and the gradients of the base model made again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.errors import RequestError
from harness.records.store import Record
from harness.results.folder import Results
from harness.results.reload import known_task, loaded_again
from harness.results.scored import scoring_params
from harness.running.base_models import model_seed


@dataclass(frozen=True)
class Plane:
    """One task with two inputs per sample, one seed of it.

    Args:
        title: the task, protocol, preset and seed.
        train, test: inputs, (n, 2) each.
        labels, test_labels: given labels, (n,) each.
        noisy: which given labels are wrong, (n,) bool.
        influence: the influence method's scores, (n,); None if they are not stored. Its title is ``influence_title``.
        flagged: what the outlier method flags, (n,) bool. Its title is ``outlier_title``.
        gradients: the last layer's gradient of every training sample on its two first principal components, (n, 2).
        explained: the share of the gradients' variance that the two components hold.
    """

    title: str
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray
    noisy: np.ndarray
    influence: np.ndarray | None
    influence_title: str
    flagged: np.ndarray
    outlier_title: str
    gradients: np.ndarray
    explained: float


def planes(results: Results, outlier: str, influence: str) -> list[Plane]:
    """The tasks of a folder that have two inputs per sample and known wrong labels; of each the first seed.

    The base model is trained again from its seed, because models and gradients are not stored.

    Args:
        outlier: the method whose flags are shown.
        influence: the method whose scores are shown.

    Raises:
        RequestError: no such task, or other data than in the run.
    """
    current = [record for record in results.records if record.scored and record.key not in results.stale]
    first: dict[str, Record] = {}
    for record in sorted(current, key=lambda record: (record.seed, record.method_spec, record.task_spec)):
        if record.method == outlier and record.n_noisy:
            params = scoring_params(record.task_params)
            first.setdefault(repr((record.task, params, record.protocol, record.preset)), record)
    found = [plane for record in first.values() if (plane := _plane(results, record, current, influence))]
    if not found:
        raise RequestError(
            f"{results.path} has no flags of {outlier} on data with two inputs per sample; `python -m harness run "
            f"--methods {outlier},{influence} --tasks blobs,moons` brings some"
        )
    return found


def _plane(results: Results, record: Record, others: list[Record], influence: str) -> Plane | None:
    task, arrays = known_task(record), results.arrays(record)
    if task is None or not arrays or "noisy" not in arrays:
        return None
    split, _ = loaded_again(task, record, arrays)
    inputs = getattr(split.train, "inputs", None)
    if inputs is None or inputs.ndim != 2 or inputs.shape[1] != 2:
        return None
    same = ("task", "task_params", "protocol", "preset", "seed")
    beside = [
        other
        for other in others
        if other.method == influence and all(getattr(other, name) == getattr(record, name) for name in same)
    ]
    theirs = results.arrays(beside[0]) if beside else None
    view = task.view(task.train(split, None, model_seed(task, record.seed)), split)
    rows = np.asarray(view.gradients.rows(slice(None)), dtype=np.float64)
    left, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return Plane(
        f"{record.task_title}, protocol {record.protocol}, preset {record.preset}, seed {record.seed}",
        inputs.numpy(),
        split.test.inputs.numpy(),
        split.train.labels.numpy(),
        split.test.labels.numpy(),
        arrays["noisy"],
        theirs["scores"] if theirs else None,
        beside[0].method_title if beside else influence,
        arrays["flagged"],
        record.method_title,
        left[:, :2] * sizes[:2],
        float((sizes[:2] ** 2).sum() / max((sizes**2).sum(), np.finfo(float).tiny)),
    )
