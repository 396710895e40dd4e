"""The rules for class labels from every source: which labels are missing, and which class each label means.

- Blanks around a text are ignored. The integer 7, the float 7.0 and the text "7" are the same label.
- Booleans are the classes False and True. If another label is a number, booleans are 0 and 1.
- A missing label is None, NaN, an empty text, or one of the texts ``nan``, ``NaN``, ``None``, ``<NA>`` and ``NaT``,
  which NumPy and pandas write for missing values. −1 means a missing label if 0 is a class, else −1 is a class.
- Classes are the distinct labels: in numeric order if all labels are numbers, else in the order of texts. A number
  that no sample has is not a class, unless the columns of given probabilities include this number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MISSING = frozenset({"", "nan", "NaN", "None", "<NA>", "NaT"})
"""Texts that mean a missing label."""

UNLABELLED = "-1"
"""The number that means a missing label if 0 is a class."""


MOST_DIGITS = 40
"""A text with more characters than this is not read as a number."""


def as_texts(labels: Any) -> np.ndarray:
    """Labels as texts, (n,). A missing label becomes an empty text.

    Raises:
        ValueError: the values are no labels. The caller puts the name of the labels before the message.
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
    """The standard form of a label text: no blanks around the text, and integers written in one way."""
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
    """The labels of several sets as texts, with the same text for the same label in all sets.

    If another label is a number, booleans become 0 and 1. If 0 is a class, −1 becomes a missing label.

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
    """The class of each column of given probabilities; None if columns and classes do not fit.

    If all classes are numbers below the number of columns, each number is a column number, so a class may have no
    sample. Otherwise the columns are the classes in order.
    """
    numbers = [_integer(text) for text in classes]
    if all(number is not None and 0 <= number < columns for number in numbers):
        return [str(column) for column in range(columns)]
    return list(classes) if len(classes) == columns else None


def numbered(texts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Class numbers, (n,) int64.

    Args:
        texts: from `together`, none of them empty.
        classes: the class names; every text must be one of them.
    """
    order = np.argsort(np.array(classes))
    numbers: np.ndarray = order[np.searchsorted(np.array(classes)[order], texts)].astype(np.int64)
    return numbers
