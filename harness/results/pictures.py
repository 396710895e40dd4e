"""The content of Figure 2: one seed's most suspicious samples for each image task in a results folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.interfaces.task import Task
from harness.records.store import Record
from harness.results.folder import Results
from harness.results.reload import known_task, loaded_again

SHOWN = 10


@dataclass(frozen=True)
class Flagged:
    """One row of Figure 2.

    Args:
        title: the data set, the setting and the method of the row.
        images: uint8 (k, h, w, 3).
        given, true: the labels' names, k each.
        known: whether the true labels are known. If False, ``true`` holds a model's predicted labels, or the given
            labels if no predictions are stored.
    """

    title: str
    images: np.ndarray
    given: Sequence[str]
    true: Sequence[str]
    known: bool = True


def flagged_pictures(
    results: Results, method: str, choose: Callable[[Sequence[Mapping[str, Any]]], int]
) -> list[Flagged]:
    """Rows of Figure 2: one seed's most suspicious samples for each image task in the results folder.

    The task loads the images from the data folder, since images are not stored with results.

    Args:
        method: the method whose flags are shown.
        choose: a function from the records of one row, as mappings of their fields, to the index of the record shown.
    """
    out = results.path
    by_task: dict[tuple[str, str], list[tuple[Record, Any]]] = {}
    for record in results.records:
        if record.method == method and record.status == "ok" and record.n_flagged:
            task = known_task(record)
            if task is not None and type(task).pictures is not Task.pictures:
                noise = str(record.task_params.get("noise", ""))
                by_task.setdefault((record.task_title, noise), []).append((record, task))
    if not by_task:
        raise RequestError(f"{out} has no flags of {method} on images; `run --methods {method}` on one brings some")
    rows = []
    for (title, noise), candidates in sorted(by_task.items(), key=lambda entry: (len(entry[0][0]), entry[0])):
        record, task = candidates[choose([vars(record) for record, _ in candidates])]
        arrays = results.arrays(record)
        if arrays is not None:
            with suppress(Unsupported):  # this task class can have images, this data has none
                rows.append(_most_suspicious(record, arrays, task, f"{title} {noise}".strip()))
    if not rows:
        raise RequestError(f"{out} has no flags of {method} on images; no task there has images")
    return rows


def _most_suspicious(record: Record, arrays: dict[str, np.ndarray], task: Any, where: str) -> Flagged:
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
