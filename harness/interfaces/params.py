"""Parameters are dataclass fields. This module reads parameters from text, lists them and merges a run's values."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from harness.errors import RequestError, did_you_mean

T = TypeVar("T")

OPTION = "option"

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def fields_of(cls: type) -> dict[str, tuple[Any, Any]]:
    """``{name: (type, default)}`` of a parameter dataclass, in order."""
    hints = _hints(cls)
    return {
        f.name: (hints[f.name], f.default_factory() if callable(f.default_factory) else f.default)
        for f in dataclasses.fields(cls)
    }


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The resolved types of a class. Every name in a class's bases is compiled for this, so it is done once."""
    return typing.get_type_hints(cls)


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """``cls(**values)``, with text coerced to the field's type.

    Raises:
        RequestError: an unknown parameter (naming the nearest one) or a value that does not fit.
    """
    name = getattr(cls, "name", cls.__name__)
    fields = fields_of(cls)
    ready = {}
    for key, value in values.items():
        if key not in fields:
            known = ", ".join(fields) if fields else "none"
            raise RequestError(f"{name} has no parameter {key!r}{did_you_mean(key, fields)}; its parameters: {known}")
        ready[key] = _coerce(name, key, value, fields[key][0])
    try:
        return cls(**ready)
    except RequestError:
        raise
    except (ValueError, TypeError) as error:
        raise RequestError(f"{name}: {error}") from error


def option(default: Any) -> Any:
    """A dataclass field for an option: a parameter that is part of a cell's key only if it differs from its default.

    A parameter added later is an option, so stored results and baselines stay valid.
    """
    return dataclasses.field(default=default, kw_only=True, metadata={OPTION: True})


def values_of(instance: Any) -> dict[str, Any]:
    """The parameter values of a method or task, JSON-ready, in field order, without each `option` at its default."""
    values = {f: getattr(instance, f.name) for f in dataclasses.fields(instance)}
    return {f.name: value for f, value in values.items() if OPTION not in f.metadata or value != f.default}


def layered(cls: type, protocol: str, preset: str | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a run sets: the protocol's, then the preset's, then the user's (later wins)."""
    by_protocol: Mapping[str, Any] = getattr(cls, "protocols", {}).get(protocol, {})
    presets = dict(getattr(cls, "presets", {}))
    if "paper" in presets:  # a plug-in may still use the preset's former name
        presets.setdefault("full", presets["paper"])
    by_preset: Mapping[str, Any] = presets.get(preset, {})
    return {**by_protocol, **by_preset, **own}


def those_of(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose names are parameters of the class. `build` checks later whether each value is valid."""
    known = fields_of(cls)
    return {key: value for key, value in values.items() if key in known}


def type_text(hint: Any) -> str:
    """A type as a user would write its values: ``float|auto``, ``aggregate|random|worst``, ``int``."""
    origin = get_origin(hint)
    if origin is Literal:
        return "|".join(str(choice) for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return "|".join(type_text(alternative) for alternative in get_args(hint))
    if hint in (type(None), bool):
        return "yes|no" if hint is bool else "none"
    return getattr(hint, "__name__", str(hint))


def _coerce(owner: str, key: str, value: Any, hint: Any) -> Any:
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for alternative in sorted(alternatives, key=lambda alternative: alternative is not type(None)):  # "none" is no text
        try:
            return _as(alternative, value)
        except (ValueError, TypeError, OverflowError):
            continue
    near = did_you_mean(str(value), [str(c) for a in alternatives if get_origin(a) is Literal for c in get_args(a)])
    raise RequestError(f"{owner}[{key}={value}] is not valid{near}; {key} takes {type_text(hint)}")


def _as(hint: Any, value: Any) -> Any:
    if get_origin(hint) is Literal:
        for choice in get_args(hint):
            if value == choice and type(value) is type(choice):
                return choice
            if isinstance(value, str) and value == str(choice):
                return choice
        raise ValueError(value)
    if hint is type(None):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        raise ValueError(value)
    if hint is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise ValueError(value)
    if hint in (int, float):
        if isinstance(value, bool):
            raise ValueError(value)
        number = hint(value)
        if not math.isfinite(number):
            raise ValueError(value)
        if hint is int and isinstance(value, float) and number != value:
            raise ValueError(value)
        return number + 0 if number == 0 else number  # −0.0 is 0.0
    if hint is str:
        if isinstance(value, str):
            return value
        raise ValueError(value)
    raise TypeError(hint)


def at_least(made: object, **least: float) -> None:
    """Raise ValueError if a parameter is below its least value. A parameter that is None or absent passes."""
    for name, bound in least.items():
        value = getattr(made, name, None)
        if value is not None and value < bound:
            raise ValueError(f"{name}={value} must be at least {bound}")


def shares(made: object, *names: str) -> None:
    """Raise ValueError if a parameter is outside [0, 1)."""
    for name in names:
        if not 0 <= getattr(made, name) < 1:
            raise ValueError(f"{name}={getattr(made, name)} must be a share in [0, 1)")
