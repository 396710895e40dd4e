"""What Figure 2 shows: of each image task in a results folder, one seed's most suspicious samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.store import Record, Store
from harness.task_base import Task
from harness.task_data import known_task, loaded_again

if TYPE_CHECKING:
    from reports.figures import Flagged

SHOWN = 10


def flagged_pictures(out: str) -> list[Flagged]:
    """Rows of Figure 2: of each image task in the store, one seed's most suspicious samples.

    Images come from the data folder, through the task; they are not stored with results.
    """
    from reports.figures import FLAGGED_BY, most_like_published

    found: dict[tuple[str, str], list[tuple[Record, dict[str, np.ndarray], Any]]] = {}
    for record, arrays in Store(out).records():
        if record.method == FLAGGED_BY and record.status == "ok" and arrays["flagged"].any():
            task = known_task(record)
            if task is not None and type(task).pictures is not Task.pictures:
                where = (record.task_title, str(record.task_params.get("noise", "")))
                found.setdefault(where, []).append((record, arrays, task))
    if not found:
        raise RequestError(
            f"{out} has no flags of {FLAGGED_BY} on images; `run --methods {FLAGGED_BY}` on one brings some"
        )
    rows = []
    for (title, noise), candidates in sorted(found.items(), key=lambda entry: (len(entry[0][0]), entry[0])):
        best = most_like_published([vars(record) for record, _, _ in candidates])
        rows.append(_most_suspicious(*candidates[best], f"{title} {noise}".strip()))
    return rows


def _most_suspicious(record: Record, arrays: dict[str, np.ndarray], task: Any, where: str) -> Flagged:
    from reports.figures import Flagged

    split, truth = loaded_again(task, record, arrays)
    given = split.train.labels.numpy()
    order = np.argsort(-np.where(arrays["flagged"], arrays["scores"], -np.inf), kind="stable")[:SHOWN]
    images = task.pictures(split, order)
    names = task.class_names() or [str(c) for c in range(split.n_classes)]
    title = (
        f"{where}, protocol {record.protocol}, preset {record.preset}, seed {record.seed}: the {len(order)} most "
        f"suspicious of {int(arrays['flagged'].sum())} flagged by {record.method_title}; "
    )
    shown = [names[c] for c in given[order]]
    if truth is not None and "noisy" in arrays:
        precision = arrays["noisy"][arrays["flagged"]].mean()
        title += f"{100 * precision:.0f} % of these have a wrong label"
        return Flagged(title, images, shown, [names[c] for c in np.asarray(truth)[order]])
    if "predicted" in arrays:
        title += "true labels are not known, below is what the model predicts"
        return Flagged(title, images, shown, [names[c] for c in arrays["predicted"][order]], known=False)
    return Flagged(f"{title}true labels are not known", images, shown, shown, known=False)
