"""One label a cell, however it was asked for: the name with the parameters that differ from its protocol and preset."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from harness.interfaces.params import build, layered, those_of, values_of
from harness.interfaces.spec import format_term
from harness.selection.registry import METHODS, TASKS, Registry

if TYPE_CHECKING:
    import pandas as pd

    from harness.records.store import Record


def relabelled(frame: pd.DataFrame) -> pd.DataFrame:
    """A tidy table whose ``method_label`` and ``task_label`` say all that is not default, and no more.

    ``outlier_iforest[n_estimators=100]`` and ``outlier_iforest`` are one cell; its stored label is that of the request
    which came first. Names that are not registered here keep theirs.
    """
    frame = frame.copy()
    frame["method_label"] = [
        label if name not in METHODS.classes() else _label(METHODS, name, params, protocol, None, task)
        for label, name, params, protocol, task in _columns(
            frame, "method_label", "method", "method_params", "protocol", "task"
        )
    ]
    frame["task_label"] = [
        label if name not in TASKS.classes() else _label(TASKS, name, params, protocol, preset)
        for label, name, params, protocol, preset in _columns(
            frame, "task_label", "task", "task_params", "protocol", "preset"
        )
    ]
    return frame


def canonical(record: Record) -> dict[str, str]:
    """The labels of one record's ``method`` and ``task``, as in `relabelled`."""
    params = {kind: json.dumps(getattr(record, f"{kind}_params"), sort_keys=True) for kind in ("method", "task")}
    labels = {"method": record.method_label, "task": record.task_label}
    if record.method in METHODS.classes():
        labels["method"] = _label(METHODS, record.method, params["method"], record.protocol, None, record.task)
    if record.task in TASKS.classes():
        labels["task"] = _label(TASKS, record.task, params["task"], record.protocol, record.preset)
    return labels


def _columns(frame: pd.DataFrame, *names: str) -> Any:
    return frame[list(names)].itertuples(index=False)


@functools.lru_cache(maxsize=4096)
def _label(
    registry: Registry[Any], name: str, params: str, protocol: str, preset: str | None, task: str | None = None
) -> str:
    cls = registry.get(name)
    own = those_of(cls, TASKS.get(task).method_params) if task in TASKS.classes() else {}
    defaults = values_of(build(cls, layered(cls, protocol, preset, own)))
    changed = {key: value for key, value in json.loads(params).items() if key not in defaults or defaults[key] != value}
    order = [*defaults, *sorted(changed.keys() - defaults.keys())]
    return format_term(name, {key: changed[key] for key in order if key in changed})
