"""The one door for stored data: records, score files and requests are checked here before anything uses them.

Files in a results folder may come from anyone, and may be damaged. What does not fit is a `Damaged`, which says why in
a few words. No other module has to expect a wrong type, a wrong length or a nested monster.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
import re
import types
import typing
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

import numpy as np

from harness.selection.plan import PRESETS, PROTOCOLS, SCHEMA

DEEPEST = 12
"""Levels of lists and objects in a record. The program writes at most five."""
LONGEST = 1_000_000
"""Characters of one text."""
LARGEST = 2**53
"""Counts up to this are exact as a float. Pandas and NumPy overflow far above."""
MOST_BYTES = 8 * 2**30
"""Bytes of all arrays of one record."""

KINDS = {
    **dict.fromkeys(("scores",), ("f", 1)),
    **dict.fromkeys(("flagged", "noisy", "own_flagged"), ("b", 1)),
    "subsets": ("b", 2),
    "losses": ("f", 3),
    **dict.fromkeys(("labels", "predicted", "train_classes", "test_classes"), ("iu", 1)),
    "estimated_errors": ("fiu", 0),
    "attribution": ("f", 2),
}
"""The arrays of a record: letters of their kind in NumPy, and their number of dimensions."""
PER_SAMPLE = ("scores", "flagged", "noisy", "own_flagged", "labels", "predicted", "train_classes")
"""Arrays with one entry per training sample."""


HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character. UTF-8 itself has none."""
LARGE = re.compile(r"[:,\[]\s*-?\d{16}")
"""A whole number of 16 digits or more; the digits of a fraction follow a point."""


class Damaged(ValueError):
    """Stored data that does not fit. The message says what, in a few words."""


def parsed(text: str) -> dict[str, Any]:
    """A JSON object, nested no deeper than `DEEPEST`, whose texts any encoding can write.

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
    return content


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
    if isinstance(schema, int) and schema > SCHEMA:
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
        if name.endswith(("_seconds", "_mib")) and value is not None and not 0 <= value < math.inf:
            raise Damaged(f"{name} is no time or memory")
    if not all(0 <= value < math.inf for value in fields.get("cost", {}).values()):
        raise Damaged("cost holds no times")
    for name in ("task_params", "method_params", "versions"):
        if not all(value is None or isinstance(value, str | int | float) for value in fields[name].values()):
            raise Damaged(f"{name} holds more than texts and numbers")
    _health(fields.get("health", {}))
    return fields


def _health(health: Mapping[str, Any]) -> None:
    """The entries of a record's health that reports calculate with."""
    for name in ("largest_tie", "non_finite"):
        if type(health.get(name, 0)) not in (int, float):
            raise Damaged(f"health: {name} is no number")
    for block in health.values():
        if isinstance(block, dict) and "converged" in block:
            try:
                float(block["relative_residual"]), int(block["iterations"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise Damaged("health: a solve without residual or iterations") from error


def arrays_of(content: bytes, n_train: int | None) -> dict[str, np.ndarray]:
    """The arrays of a file of scores.

    Args:
        content: the ``.npz`` file.
        n_train: the number of training samples in the record.

    Raises:
        Damaged: the file cannot be read, or an array has another kind, shape or length than `KINDS` says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MOST_BYTES:
            raise Damaged(f"{size / 2**30:.0f} GiB of arrays")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files if name in KINDS}
    except Damaged:
        raise
    except Exception as error:  # readers of zip and NumPy files raise a dozen kinds of errors on damaged files
        raise Damaged(f"{type(error).__name__}: {error}") from error
    for name, array in arrays.items():
        kinds, dimensions = KINDS[name]
        if array.dtype.kind not in kinds or array.ndim != dimensions:
            raise Damaged(f"{name} is {array.dtype} with {array.ndim} dimensions")
    _check_shapes(arrays, n_train)
    return arrays


def _check_shapes(arrays: Mapping[str, np.ndarray], n_train: int | None) -> None:
    sizes = {len(arrays[name]) for name in PER_SAMPLE if name in arrays}
    if "attribution" in arrays:
        if not {"train_classes", "test_classes"} <= arrays.keys():
            raise Damaged("attributions without classes")
        sizes.add(arrays["attribution"].shape[1])
        if arrays["attribution"].shape[0] != len(arrays["test_classes"]):
            raise Damaged("attributions of another number of test samples")
    elif not {"scores", "flagged"} <= arrays.keys():
        raise Damaged("no scores")
    if "losses" in arrays:
        if not {"attribution", "subsets"} <= arrays.keys():
            raise Damaged("losses without attributions or subsets")
        sizes.add(arrays["subsets"].shape[1])
        asked = arrays["subsets"].shape[0], arrays["attribution"].shape[0]
        if not len(arrays["losses"]) or 0 in asked or arrays["losses"].shape[1:] != asked:
            raise Damaged("losses of another number of subsets or test samples")
    if "own_flagged" in arrays and "estimated_errors" not in arrays:
        raise Damaged("own flags without their number")
    if len(sizes) > 1 or (n_train is not None and sizes != {n_train}):
        raise Damaged(f"lengths {sorted(sizes)} for {n_train} samples")
