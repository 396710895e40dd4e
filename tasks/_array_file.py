"""Reading a user's own arrays from an ``.npz`` file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RequestError, did_you_mean

SETS = ("", "validation_", "test_")
PARTS = ("features", "images", "labels", "probs")
KEYS = (*(f"{of}{part}" for of in SETS for part in PARTS), "true_labels")


@dataclass(frozen=True, eq=False)
class Part:
    """One set: features (n, d) float32 or images (n, 3, h, w) uint8 or neither, class numbers (n,), probabilities."""

    inputs: np.ndarray | None
    labels: np.ndarray
    probs: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """A file's content.

    Args:
        train: what is scored.
        truth: its true class numbers, where given.
        validation, test: further sets, where given.
        classes: the labels as they stand in the file, in the order of the class numbers.
    """

    train: Part
    truth: np.ndarray | None
    validation: Part | None
    test: Part | None
    classes: list[str]

    @property
    def images(self) -> bool:
        return self.train.inputs is not None and self.train.inputs.ndim == 4


def digest(path: str) -> str:
    """A hash of the file's content.

    Raises:
        RequestError: there is no such file.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise RequestError(f"arrays[path={path}] is no file")
        stat = os.stat(path)
        return _digest(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise RequestError(f"arrays[path={path}]: {error.strerror or error}") from error


@lru_cache
def _digest(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read(path: str) -> ArrayFile:
    """Read and check a file.

    Raises:
        RequestError: what is missing, of the wrong shape or kind, in one sentence.
    """
    arrays = _load(path)
    _check_names(path, arrays)
    named = [arrays[f"{of}labels"] for of in SETS if f"{of}labels" in arrays]
    named += [arrays["true_labels"]] if "true_labels" in arrays else []
    widths = {arrays[key].shape[1] for key in arrays if key.endswith("probs") and arrays[key].ndim == 2}
    numbers = _Classes.of(path, named, widths)
    parts = {of: _part(path, of, arrays, numbers) for of in SETS if f"{of}labels" in arrays}
    train = parts[""]
    truth = None
    if "true_labels" in arrays:
        truth = numbers(arrays["true_labels"])
        if truth.shape != train.labels.shape:
            raise _wrong(path, f"true_labels has the shape {truth.shape}, labels {train.labels.shape}")
    for of in SETS[1:]:
        part = parts.get(of)
        if part is not None and not _alike(part.inputs, train.inputs):
            raise _wrong(path, f"{of}features or {of}images must be like those of the training samples")
    return ArrayFile(train, truth, parts.get("validation_"), parts.get("test_"), numbers.names)


def _load(path: str) -> dict[str, np.ndarray]:
    try:
        content = np.load(Path(path), allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("it is a single array; write it by numpy.savez(path, features=…, labels=…)")
        with content:
            arrays = {name: content[name] for name in content.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} is no array")
        return arrays
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError, MemoryError, TypeError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        reason = "it holds Python objects" if "allow_pickle" in told else told
        raise _wrong(path, f"it cannot be read: {reason}") from error


def _check_names(path: str, arrays: dict[str, np.ndarray]) -> None:
    for name in arrays:
        if name not in KEYS:
            raise _wrong(path, f"{name!r} is none of its arrays{did_you_mean(name, KEYS)}; there may be: "
                         f"{', '.join(KEYS)}")  # fmt: skip
    if "labels" not in arrays:
        raise _wrong(path, f"it has no labels; it holds {', '.join(arrays) or 'nothing'}")
    if not {"features", "images", "probs"} & set(arrays):
        raise _wrong(path, "it needs features (n, d), images (n, h, w, 3), or probs (n, c)")
    for of in SETS:
        if {f"{of}features", f"{of}images"} <= set(arrays):
            raise _wrong(path, f"give {of}features or {of}images, not both")
        if f"{of}labels" not in arrays and any(name in arrays for name in (f"{of}{part}" for part in PARTS)):
            raise _wrong(path, f"it has no {of}labels")


@dataclass(frozen=True)
class _Classes:
    """Labels as they stand in the file to class numbers 0 … c − 1."""

    path: str
    names: list[str]
    integers: bool

    @classmethod
    def of(cls, path: str, arrays: list[np.ndarray], widths: set[int]) -> _Classes:
        kinds = {array.dtype.kind for array in arrays}
        if any(array.ndim != 1 or not len(array) for array in arrays):
            raise _wrong(path, "labels must be one-dimensional and not empty")
        if kinds <= {"i", "u"}:
            low, high = min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)
            if low < 0:
                raise _wrong(path, f"labels must be 0 … c − 1 or names; there is {low}")
            if high >= max(1000, sum(map(len, arrays))):
                raise _wrong(path, f"labels must be 0 … c − 1; there is {high}: number the classes, or give text")
            found = cls(path, [str(k) for k in range(max([high + 1, *widths]))], True)
        elif kinds <= {"U", "S"}:
            found = cls(path, sorted({_text(label) for array in arrays for label in np.unique(array)}), False)
        else:
            raise _wrong(path, "labels must be integers or text")
        if len(found.names) < 2:
            raise _wrong(path, "all labels are of one class")
        if widths - {len(found.names)}:
            raise _wrong(path, f"probs has {max(widths)} columns and there are {len(found.names)} classes")
        return found

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        if self.integers:
            return np.asarray(labels, dtype=np.int64)
        number = {name: k for k, name in enumerate(self.names)}
        return np.array([number[_text(label)] for label in labels], dtype=np.int64)


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _part(path: str, of: str, arrays: dict[str, np.ndarray], numbers: _Classes) -> Part:
    labels = numbers(arrays[f"{of}labels"])
    inputs = None
    if f"{of}features" in arrays:
        inputs = arrays[f"{of}features"]
        kind = f"it is {inputs.dtype} {inputs.shape}"
        if inputs.ndim != 2 or inputs.dtype.kind not in "fiub" or not inputs.shape[1]:
            raise _wrong(path, f"{of}features must be (n, d) finite numbers; {kind}")
        with np.errstate(over="ignore"):
            inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if not np.isfinite(inputs).all():
            raise _wrong(path, f"{of}features must be (n, d) finite numbers of float32's range; {kind}")
    elif f"{of}images" in arrays:
        inputs = _images(path, f"{of}images", arrays[f"{of}images"])
    probs = arrays.get(f"{of}probs")
    if probs is not None:
        right = probs.ndim == 2 and probs.dtype.kind == "f" and bool(np.isfinite(probs).all())
        if not right or probs.min() < 0 or np.abs(probs.sum(1) - 1).max() > 1e-2:
            raise _wrong(path, f"{of}probs must be (n, c) probabilities with rows that sum to 1")
        probs = np.asarray(probs, dtype=np.float32)
    for name, values in (("features or images", inputs), ("probs", probs)):
        if values is not None and len(values) != len(labels):
            raise _wrong(path, f"{of}labels has {len(labels)} entries, {of}{name} {len(values)}")
    return Part(inputs, labels, probs)


def _images(path: str, name: str, images: np.ndarray) -> np.ndarray:
    """(n, 3, h, w) from (n, h, w), (n, h, w, 1), (n, h, w, 3) or (n, 3, h, w)."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise _wrong(path, f"{name} must be uint8 (n, h, w, 3) or (n, h, w); it is {images.dtype} {images.shape}")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3) or min(images.shape[2:]) < 8:
        raise _wrong(path, f"{name} must have 1 or 3 channels and sides of 8 pixels or more; it is {images.shape}")
    return np.ascontiguousarray(np.broadcast_to(images, (len(images), 3, *images.shape[2:])))


def _alike(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    return (ours is None) == (theirs is None) and (ours is None or theirs is None or ours.shape[1:] == theirs.shape[1:])


def _wrong(path: str, what: str) -> RequestError:
    return RequestError(f"arrays[path={path}]: {what}")
