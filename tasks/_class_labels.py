"""One rule for class labels, whatever they were read from: which are missing, and which class each one is.

- Blanks around a text do not count. Integers, floats without a fraction and texts that write one are the same label.
- Booleans are the classes False and True; beside numbers they are 0 and 1.
- No label stands where nothing was given: None, NaN, an empty text, and the texts ``nan``, ``NaN``, ``None``, ``<NA>``
  and ``NaT``, as which NumPy and pandas write it. −1 stands for no label where 0 is a class, and is a class where 0 is
  none.
- Classes are the distinct labels, in the order of numbers if all are numbers, else in the order of texts. A number that
  no sample has is no class, unless the columns of given probabilities say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MISSING = frozenset({"", "nan", "NaN", "None", "<NA>", "NaT"})
"""Texts that stand for no label."""

UNLABELLED = "-1"
"""The number that stands for no label where 0 is a class."""


MOST_DIGITS = 40
"""Longer texts are no numbers."""


def as_texts(labels: Any) -> np.ndarray:
    """Labels as texts, (n,), an empty one where there is none.

    Raises:
        ValueError: they are no labels; the message goes on from the labels' name.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"must be one-dimensional and not empty; the shape is {values.shape}")
    kind = values.dtype.kind
    if kind in "iu":
        return values.astype(str)
    if kind == "b":
        return np.where(values, "True", "False")
    if kind == "f":
        return _whole(values)
    if kind not in "USO":
        raise ValueError(f"must be integers, booleans or text, not {values.dtype}")
    distinct, which = np.unique([_text(value) for value in values.tolist()], return_inverse=True)
    return np.array([_canonical(text) for text in distinct])[which]


def _whole(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    known = np.isfinite(values)
    fractions = values[known][values[known] != np.round(values[known])]
    if len(fractions):
        raise ValueError(f"must be integers, booleans or text, not numbers such as {fractions[0]:g}")
    if np.isinf(values).any() or (np.abs(values[known]) >= 2**53).any():
        raise ValueError("must be integers, booleans or text; there are floats that are no exact integers")
    return np.where(known, np.where(known, values, 0).astype(np.int64).astype(str), "")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


def _canonical(text: str) -> str:
    """A text without what does not count: blanks around it, and how an integer is written."""
    text = text.strip()
    if text in MISSING:
        return ""
    number = _integer(text)
    return text if number is None else str(number)


def _integer(text: str) -> int | None:
    """The integer that a text writes, ``7``, ``+7``, ``-7`` or ``7.0``; None if it writes none. ``007`` is a text."""
    if len(text) > MOST_DIGITS:
        return None
    plain = text[1:] if text[:1] in ("+", "-") else text
    whole, point, fraction = plain.partition(".")
    if not whole.isdecimal() or not whole.isascii() or (point and fraction.strip("0")):
        return None
    return int(text[: len(text) - len(point) - len(fraction)]) if whole == "0" or whole[0] != "0" else None


def together(sets: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Several sets' labels as texts, with one word for one label: booleans beside numbers are 0 and 1, and −1 is none
    where 0 is a class.

    Args:
        sets: from `as_texts`.
    """
    readings = list(sets)
    known = {text for texts in readings for text in np.unique(texts).tolist()} - {""}
    if {"False", "True"} & known and known - {"False", "True"} and all(_is_number(text) for text in known):
        readings = [_replaced(_replaced(texts, "False", "0"), "True", "1") for texts in readings]
        known = {{"False": "0", "True": "1"}.get(text, text) for text in known}
    if {UNLABELLED, "0"} <= known:
        readings = [_replaced(texts, UNLABELLED, "") for texts in readings]
    return readings


def _is_number(text: str) -> bool:
    return text in ("False", "True") or _integer(text) is not None


def _replaced(texts: np.ndarray, old: str, new: str) -> np.ndarray:
    return np.where(texts == old, new, texts)


def classes_of(sets: Iterable[np.ndarray]) -> list[str]:
    """The classes' names, in order.

    Args:
        sets: from `together`.
    """
    known = {text for texts in sets for text in np.unique(texts).tolist()} - {""}
    if all(_integer(text) is not None for text in known):
        return sorted(known, key=int)
    return sorted(known)


def with_columns(classes: Sequence[str], columns: int) -> list[str] | None:
    """The classes that the columns of given probabilities stand for; None where they cannot.

    Numbers below the number of columns are the columns' own numbers, so that a class may have no sample. Otherwise
    columns are the classes in order.
    """
    numbers = [_integer(text) for text in classes]
    if all(number is not None and 0 <= number < columns for number in numbers):
        return [str(column) for column in range(columns)]
    return list(classes) if len(classes) == columns else None


def numbered(texts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Class numbers, (n,) int64.

    Args:
        texts: from `together`, none of them empty.
        classes: which hold them all.
    """
    order = np.argsort(np.array(classes))
    numbers: np.ndarray = order[np.searchsorted(np.array(classes)[order], texts)].astype(np.int64)
    return numbers
