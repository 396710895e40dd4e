"""Turns the arguments of `harness.run` (names, instances, classes, functions) into one selection text."""

from __future__ import annotations

import inspect
from typing import Any

from harness.errors import RequestError
from harness.interfaces.params import values_of
from harness.interfaces.spec import format_term
from harness.selection.adoption import is_task, method_class
from harness.selection.registry import TASKS, Registry


def selection(registry: Registry[Any], wanted: Any) -> tuple[str, tuple[str, ...]]:
    """A selection as text, and the plug-ins that other processes must load because they are not built in.

    Args:
        wanted: a selection as text, an instance, a class, a function of a view, or a list of such values.

    Raises:
        RequestError: a value is of no such kind, or another class already has the value's name.
    """
    things = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    named = [_one(registry, thing) for thing in things]
    return ",".join(text for text, _ in named), tuple(dict.fromkeys(p for _, p in named if p))


def _one(registry: Registry[Any], thing: Any) -> tuple[str, str]:
    if isinstance(thing, str):
        return thing, ""
    made = not (inspect.isclass(thing) or inspect.isfunction(thing))
    try:
        cls = type(thing) if made else thing if is_task(thing) else method_class(thing)
        known = registry.classes().get(getattr(cls, "name", ""))
        if known is not cls:
            if is_task(cls) != (registry is TASKS):
                raise TypeError(f"it is no {registry.kind}")
            if not is_task(cls):
                cls = method_class(cls)
            registry.register(cls)
        text = format_term(cls.name, values_of(thing) if made else {})
    except TypeError as error:
        raise RequestError(f"{thing!r} cannot be a {registry.kind}: {error}; give a class or its name") from error
    if "|" in text:
        raise RequestError(f"{text} has a value with '|', which stands between alternatives; write its name as text")
    original = getattr(cls, "original", cls)
    outside = original.__module__ not in ("__main__",) and "." not in original.__qualname__
    brings = outside and not original.__module__.startswith(("methods.", "tasks.", "harness_plugin_"))
    return text, f"{original.__module__}:{original.__qualname__}" if brings else ""
