"""How a cell's method and task are printed: a spec such as ``outlier_iforest[n_estimators=50]``.

A spec names only the parameters that differ from the values of the protocol and the preset. The wording of the
request does not change the spec. A spec can be given to ``--methods`` or ``--tasks`` again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from harness.interfaces.params import fields_of, layered, those_of
from harness.interfaces.spec import format_term
from harness.selection.registry import METHODS, TASKS, Registry


def method_spec(name: str, params: Mapping[str, Any], protocol: str, task: str) -> str | None:
    """The spec of a method with all its parameters, on a task; None where no such method is registered."""
    if name not in METHODS.classes():
        return None
    preferred = TASKS.classes()[task].method_params if task in TASKS.classes() else {}
    own = those_of(METHODS.get(name), preferred)
    return _spec(METHODS, name, tuple(params.items()), protocol, None, tuple(own.items()))


def task_spec(name: str, params: Mapping[str, Any], protocol: str, preset: str) -> str | None:
    """The spec of a task with all its parameters; None where no such task is registered."""
    return _spec(TASKS, name, tuple(params.items()), protocol, preset, ()) if name in TASKS.classes() else None


@functools.lru_cache(maxsize=4096)
def _spec(
    registry: Registry[Any],
    name: str,
    params: tuple[tuple[str, Any], ...],
    protocol: str,
    preset: str | None,
    own: tuple[tuple[str, Any], ...],
) -> str:
    cls = registry.get(name)
    usual = {key: default for key, (_, default) in fields_of(cls).items()}
    defaults = usual | layered(cls, protocol, preset, dict(own))
    changed = {key: value for key, value in params if key not in defaults or defaults[key] != value}
    order = [*defaults, *sorted(changed.keys() - defaults.keys())]
    return format_term(name, {key: changed[key] for key in order if key in changed})
