"""Which stored results were not computed by the current code and data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.errors import RequestError
from harness.interfaces.params import build
from harness.records.store import Record
from harness.selection.plan import SCHEMA
from harness.selection.registry import METHODS, TASKS
from harness.selection.versions import code_version, gradients_version, machinery_version


def unknown_names(records: Iterable[Record]) -> list[str]:
    """Methods and tasks of the records that are not registered here. Whether their code has changed is unknown."""
    known = {*METHODS.classes(), *TASKS.classes()}
    return sorted({name for record in records for name in (record.method, record.task)} - known)


def stale_keys(records: Iterable[Record]) -> set[str]:
    """Keys of the records whose method, task, data, shared code or record schema has changed since.

    The code version of a method or task that is not registered here, for example from a plug-in, is taken as
    unchanged.
    """
    methods = {name: code_version(cls) for name, cls in METHODS.classes().items()}
    tasks = {name: code_version(cls) for name, cls in TASKS.classes().items()}
    shared = {"schema": SCHEMA, "machinery": machinery_version()}
    stale = set()
    for record in records:
        versions = record.versions
        current = shared | {
            "gradients": gradients_version() if "gradients" in versions else None,
            "method": methods.get(record.method, versions.get("method")),
            "task": tasks.get(record.task, versions.get("task")),
        }
        if any(versions.get(name) != version for name, version in current.items()) or _other_parts(record):
            stale.add(record.key)
    return stale


def _other_parts(record: Record) -> bool:
    """Whether a data or code file that a parameter names has changed since. False if the file is not available."""
    versions = record.versions
    try:
        if "data" in versions and record.task in TASKS.classes():
            task: Any = build(TASKS.get(record.task), record.task_params)
            version = task.data_version()
            if version and version != versions["data"]:  # none: the data is not at hand
                return True
        if "method_parts" in versions and record.method in METHODS.classes():
            method: Any = build(METHODS.get(record.method), record.method_params)
            return bool(method.parts_version() != versions["method_parts"])
    except RequestError:
        pass
    return False
