"""Loads the data of a stored record again, since pictures, labels and names are not stored with results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.params import build
from harness.interfaces.task import Split
from harness.records.store import Record
from harness.seeds import derive
from harness.selection.registry import TASKS


def known_task(record: Record) -> Any:
    """The record's task. None if the task is not registered or does not accept the record's parameters."""
    try:
        return build(TASKS.get(record.task), record.task_params)
    except RequestError:
        return None


def loaded_again(task: Any, record: Record, arrays: Mapping[str, np.ndarray]) -> tuple[Split, np.ndarray | None]:
    """The split and true labels that the task's ``load`` gave when the record was made.

    Raises:
        RequestError: the data is missing, or differs from what the record was made on.
    """
    if task.data_version() != record.versions.get("data", ""):
        raise other_data(record)
    task.check()
    split, truth = task.load(derive("data", task.name, record.seed))
    given = split.train.labels.numpy()
    same = len(given) == record.n_train
    if same and "noisy" in arrays:
        same = truth is not None and np.array_equal(truth != given, arrays["noisy"])
    if not same:
        raise other_data(record)
    return split, truth


def texts_again(task: Any, record: Record) -> Mapping[str, list[str]]:
    """The samples that the record was made on as texts, ``train`` and ``test``.

    Raises:
        RequestError: the data is missing, or differs from what the record was made on.
        Unsupported: the task's samples are no texts.
    """
    if task.data_version() != record.versions.get("data", ""):
        raise other_data(record)
    texts: Mapping[str, list[str]] = task.texts(derive("data", task.name, record.seed))
    return texts


def other_data(record: Record) -> RequestError:
    """The error for data that differs from the data of the record."""
    return RequestError(f"the data at hand is not what {record.task_spec}, seed {record.seed}, was run on")
