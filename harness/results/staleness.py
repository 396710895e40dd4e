"""Which stored results come from other code than the code at hand."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.interfaces.params import build
from harness.selection.plan import SCHEMA
from harness.selection.registry import METHODS, TASKS
from harness.selection.versions import code_version, gradients_version, machinery_version

if TYPE_CHECKING:
    import pandas as pd


def unknown_names(frame: pd.DataFrame) -> list[str]:
    """Methods and tasks of the tidy table that are not registered here, so that nobody can tell if they moved."""
    names = {*(set(frame["method"]) - set(METHODS.classes())), *(set(frame["task"]) - set(TASKS.classes()))}
    return sorted(names)


def stale_keys(frame: pd.DataFrame) -> set[str]:
    """Keys of the tidy table's cells whose method, task, data or record schema has moved since.

    Cells of methods and tasks that are not registered here (a plug-in's, say) cannot be judged and are left out.
    """
    current = {
        "method": {name: code_version(cls) for name, cls in METHODS.classes().items()},
        "task": {name: code_version(cls) for name, cls in TASKS.classes().items()},
    }
    stale = set()
    for cell in frame.drop_duplicates("key").to_dict("records"):
        versions = json.loads(cell["versions"])
        moved = any(current[kind].get(cell[kind], versions.get(kind)) != versions.get(kind) for kind in current)
        shared = versions.get("schema") != SCHEMA or versions.get("machinery") != machinery_version()
        gradients = versions.get("gradients", gradients_version()) != gradients_version()
        if moved or shared or gradients or _other_parts(cell, versions):
            stale.add(str(cell["key"]))
    return stale


def _other_parts(cell: Mapping[Hashable, Any], versions: Mapping[str, Any]) -> bool:
    """Whether files that parameters name, data or a detector's, have changed since; False where that cannot be told."""
    try:
        if "data" in versions and cell["task"] in TASKS.classes():
            task: Any = build(TASKS.get(str(cell["task"])), json.loads(str(cell["task_params"])))
            version = task.data_version()
            if version and version != versions["data"]:  # none: the data is not at hand
                return True
        if "method_parts" in versions and cell["method"] in METHODS.classes():
            method: Any = build(METHODS.get(str(cell["method"])), json.loads(str(cell["method_params"])))
            return bool(method.parts_version() != versions["method_parts"])
    except RequestError:
        pass
    return False
