"""The one door for stored data: records, requests and baselines are checked here before anything uses them.

Files in a results folder may come from anyone, and may be damaged. What does not fit is a `Damaged`, which says why in
a few words. No other module has to expect a wrong type, a wrong length or a nested monster. `score_arrays` is the door
for files of scores.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from harness.errors import without_controls
from harness.selection.plan import PRESETS, PROTOCOLS, SCHEMA

DEEPEST = 12
"""Levels of lists and objects in a record. The program writes at most five."""
LONGEST = 1_000_000
"""Characters of one text."""
LARGEST = 2**53
"""Counts up to this are exact as a float. Pandas and NumPy overflow far above."""
LONGEST_NAME = 2_000
"""Characters of a title, a spec or another name, which stand in tables and figures."""
HUGE = 1e100
"""Finite metrics and times are smaller: their squares can still be added up."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character. UTF-8 itself has none."""
LARGE = re.compile(r"[:,\[]\s*-?\d{16}")
"""A whole number of 16 digits or more; the digits of a fraction follow a point."""
CONTROL = re.compile(r"\\u00[0189]|\\u007[fF]|\\u[fF]{3}[eEfF]|\\[bfr]|[\x7f-\x9f\ufffe\uffff]")
"""A sign that no terminal and no XML should get, as JSON writes it. Some others match, too."""


class Damaged(ValueError):
    """Stored data that does not fit. The message says what, in a few words."""


def parsed(text: str) -> dict[str, Any]:
    """A JSON object, nested no deeper than `DEEPEST`, whose texts any encoding can write and any terminal can show.

    Control characters are replaced: error messages may be coloured, and names may try to move the cursor.

    Raises:
        Damaged: it is not.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise Damaged("no JSON object")
    deep = text.count("{") + text.count("[") > DEEPEST
    if deep or len(text) > LONGEST or HALF.search(text) or LARGE.search(text):
        _checked(content, 0)  # only then can anything be too long, too deep or too large
    if CONTROL.search(text):
        shown: dict[str, Any] = _shown(content)
        return shown
    return content


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return without_controls(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list) else value


def _checked(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise Damaged(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise Damaged(f"a text of {len(value):,} characters")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Damaged("a text with half a character") from error
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise Damaged("a number too large to count")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _checked(key, depth)
            _checked(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _checked(inner, depth + 1)


def fitted(cls: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, each of its declared type; fields with a default may be missing.

    Raises:
        Damaged: a field is unknown, missing, or of another type.
    """
    checks = _checks(cls)
    for name, value in content.items():
        if name not in checks:
            raise Damaged(f"unknown field {name[:40]!r}")
        fits, type_name, _ = checks[name]
        if not fits(value):
            raise Damaged(f"{name} is no {type_name}")
    for name, (_, _, needed) in checks.items():
        if needed and name not in content:
            raise Damaged(f"{name} is missing")
    return dict(content)


Check = Callable[[Any], bool]


@functools.cache
def _checks(cls: type) -> dict[str, tuple[Check, str, bool]]:
    """For each field: whether a value fits, the type in words, and whether the field must be there."""
    hints = typing.get_type_hints(cls)
    checks = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        words = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
        checks[field.name] = (_check(hint), words, needed)
    return checks


def _check(hint: Any) -> Check:
    """Whether a value read from JSON has a type. A whole number will do for a float; a truth value is no number."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin in (typing.Union, types.UnionType):
        any_of = [_check(each) for each in inside]
        return lambda value: any(fits(value) for fits in any_of)
    if origin is dict:
        of_values = _check(inside[1])
        return lambda value: isinstance(value, dict) and all(map(of_values, value.values()))
    if origin in (list, tuple):
        of_each = _check(inside[0])
        return lambda value: isinstance(value, list) and all(map(of_each, value))
    if hint is float:
        return lambda value: type(value) in (int, float)
    if hint is type(None):
        return lambda value: value is None
    return lambda value: type(value) is hint


def record_fields(content: Mapping[str, Any], cls: type, statuses: Sequence[str]) -> dict[str, Any]:
    """The fields of a record.

    Args:
        content: as from `parsed`, with current names.
        cls: the record's dataclass.
        statuses: what a record's status may be.

    Raises:
        Damaged: a field does not fit, or a newer program wrote the record.
    """
    fields = fitted(cls, content)
    schema = fields["versions"].get("schema", SCHEMA)
    if type(schema) is not int:
        raise Damaged("schema is no whole number")
    if schema > SCHEMA:
        raise Damaged(f"a newer version of this program wrote it (schema {schema}; this program knows {SCHEMA})")
    for name, known in (("status", statuses), ("protocol", PROTOCOLS), ("preset", PRESETS)):
        if fields[name] not in known:
            raise Damaged(f"{name} is none of {', '.join(known)}")
    if not 0 <= fields["seed"] < 2**32:
        raise Damaged("seed is out of range")
    for name in ("n_train", "n_flagged", "n_noisy"):
        if (fields.get(name) or 0) < 0:
            raise Damaged(f"{name} is negative")
    if fields["status"] == "ok" and not fields.get("n_train"):
        raise Damaged("no number of training samples")
    for name, value in fields.items():
        if name.endswith(("_seconds", "_mib")) and value is not None and not 0 <= value < HUGE:
            raise Damaged(f"{name} is no time or memory")
        if isinstance(value, str) and name != "error" and len(value) > LONGEST_NAME:
            raise Damaged(f"{name} has {len(value):,} characters")
    if not all(0 <= value < HUGE for value in fields.get("cost", {}).values()):
        raise Damaged("cost holds no times")
    if any(math.isfinite(value) and abs(value) >= HUGE for value in fields.get("metrics", {}).values()):
        raise Damaged("a metric too large to calculate with")
    if any(
        math.isfinite(value) and abs(value) >= HUGE for curve in fields.get("curves", {}).values() for value in curve
    ):
        raise Damaged("a curve too large to calculate with")
    for name in ("task_params", "method_params", "versions"):
        if not all(value is None or isinstance(value, str | int | float) for value in fields[name].values()):
            raise Damaged(f"{name} holds more than texts and numbers")
    if not isinstance(fields["task_params"].get("budget", 0.0), int | float):
        raise Damaged("task_params: budget is no number")
    _health(fields.get("health", {}))
    return fields


def _health(health: Mapping[str, Any]) -> None:
    """The entries of a record's health that reports calculate with."""
    for name in ("largest_tie", "non_finite"):
        if type(health.get(name, 0)) not in (int, float):
            raise Damaged(f"health: {name} is no number")
    left = health.get("left_behind", [])
    if not (isinstance(left, list) and all(isinstance(what, str) for what in left)):
        raise Damaged("health: left_behind is no list of texts")
    for block in health.values():
        if isinstance(block, dict) and "converged" in block:
            try:
                float(block["relative_residual"]), int(block["iterations"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise Damaged("health: a solve without residual or iterations") from error
