"""Reading a user's own arrays from an ``.npz`` file."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.errors import RequestError, did_you_mean
from tasks._class_labels import as_texts, classes_of, numbered, together, with_columns

SETS = ("", "validation_", "test_")
PARTS = ("features", "images", "labels", "probs")
KEYS = (*(f"{which}{name}" for which in SETS for name in PARTS), "true_labels")


@dataclass(frozen=True, eq=False)
class Part:
    """One set of samples of the file.

    A set has features (n, d) as in the file, or images (n, 3, h, w) uint8, or neither. It has class numbers (n,), may
    have probabilities, and has the samples' row numbers in the file's arrays, in order.
    """

    inputs: np.ndarray | None
    labels: np.ndarray
    probs: np.ndarray | None
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """The content of a file, without the rows that have no label.

    Args:
        train: the training samples, which methods score.
        truth: the true class numbers of the training samples, if given.
        validation, test: the validation and the test samples, if given.
        classes: the classes' names, in the order of the class numbers.
        left_out: how many training samples have no label.
    """

    train: Part
    truth: np.ndarray | None
    validation: Part | None
    test: Part | None
    classes: list[str]
    left_out: int

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
    """Read and check a file. If the meaning of the labels is not obvious, a warning says how they were read.

    Raises:
        RequestError: an array is missing, or has the wrong shape or type; the message says which.
    """
    arrays = _load(path)
    _check_names(path, arrays)
    keys = [key for key in (*(f"{which}labels" for which in SETS), "true_labels") if key in arrays]
    written = [_texts(path, key, arrays[key]) for key in keys]
    labels = dict(zip(keys, together(written), strict=True))
    _check_unlabelled(path, arrays, classes_of(written), classes_of(labels.values()))
    classes = _classes(path, arrays, labels)
    parts = {which: _part(path, which, arrays, labels, classes) for which in SETS if f"{which}labels" in arrays}
    train = parts[""]
    if len(set(train.labels.tolist())) < 2:
        raise _wrong(path, f"all labels of the training samples are of one class, {classes[int(train.labels[0])]}")
    truth = None
    if "true_labels" in labels:
        true = labels["true_labels"]
        if len(true) != len(labels["labels"]):
            raise _wrong(path, f"true_labels has {len(true)} entries, labels {len(labels['labels'])}")
        if not (true[train.rows] != "").all():
            row = int(train.rows[true[train.rows] == ""][0])
            raise _wrong(path, f"true_labels has no label in row {row}; leave true_labels out, or give all of them")
        truth = numbered(true[train.rows], classes)
        _check_truth(path, train.labels, truth, classes)
    for which in SETS[1:]:
        same_set = parts.get(which)
        if same_set is not None and not _alike(same_set.inputs, train.inputs):
            raise _wrong(path, f"{which}features or {which}images must be like those of the training samples")
    left_out = len(labels["labels"]) - len(train)
    return ArrayFile(train, truth, parts.get("validation_"), parts.get("test_"), classes, left_out)


def _check_unlabelled(path: str, arrays: dict[str, np.ndarray], written: list[str], classes: list[str]) -> None:
    """Refuse a -1 that would mean "no label" if the columns of ``probs`` suggest that -1 is a class."""
    widths = {arrays[key].shape[1] for key in arrays if key.endswith("probs") and arrays[key].ndim == 2}
    if len(written) in widths and len(classes) < len(written):
        raise _wrong(
            path,
            f"labels are {', '.join(written)} and probs has {len(written)} columns: is -1 a class? Number the classes "
            "from 0, or leave the rows without a label empty",
        )


def _check_truth(path: str, given: np.ndarray, truth: np.ndarray, classes: list[str]) -> None:
    """Refuse true labels that share no class with the given labels; warn if most true labels differ from those."""
    if not set(given.tolist()) & set(truth.tolist()):
        names = [", ".join(classes[k] for k in sorted(set(labels.tolist()))[:4]) for labels in (given, truth)]
        raise _wrong(
            path, f"labels ({names[0]}) and true_labels ({names[1]}) have no class in common; write them alike"
        )
    wrong = int((given != truth).sum())
    if wrong > 0.5 * len(truth):
        _tell(
            path, f"labels and true_labels differ in {wrong} of {len(truth)} rows: do both count classes from the same?"
        )


def _texts(path: str, key: str, values: np.ndarray) -> np.ndarray:
    try:
        return as_texts(values)
    except ValueError as error:
        raise _wrong(path, f"{key} {error}") from error


def _classes(path: str, arrays: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> list[str]:
    classes = classes_of(labels.values())
    widths = {arrays[key].shape[1] for key in arrays if key.endswith("probs") and arrays[key].ndim == 2}
    if len(widths) > 1:
        raise _wrong(path, f"probs of different sets have {' and '.join(map(str, sorted(widths)))} columns")
    for width in widths:
        named = with_columns(classes, width)
        if named is None:
            listed = ", ".join(classes[:8]) + (" …" if len(classes) > 8 else "")
            raise _wrong(path, f"probs has {width} columns and there are {len(classes)} classes: {listed}")
        if named == classes and classes != [str(k) for k in range(width)]:
            told = ", ".join(classes[:4]) + (f", … {classes[-1]}" if width > 4 else "")
            _tell(path, f"the columns of probs are taken for the classes in this order: {told}")
        classes = named
    if len(classes) < 2:
        unlabelled = " (-1 stands for no label beside 0)" if classes == ["0"] else ""
        raise _wrong(path, f"all labels are of one class{f', {classes[0]}' if classes else ''}{unlabelled}")
    return classes


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
    except Exception as error:  # damaged archives raise a dozen kinds
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
    for which in SETS:
        if {f"{which}features", f"{which}images"} <= set(arrays):
            raise _wrong(path, f"give {which}features or {which}images, not both")
        if f"{which}labels" not in arrays and any(
            name in arrays for name in (f"{which}{quantity}" for quantity in PARTS)
        ):
            raise _wrong(path, f"it has no {which}labels")


def _part(
    path: str, which: str, arrays: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: list[str]
) -> Part:
    texts = labels[f"{which}labels"]
    inputs = None
    if f"{which}features" in arrays:
        inputs = _features(path, f"{which}features", arrays[f"{which}features"])
    elif f"{which}images" in arrays:
        inputs = _images(path, f"{which}images", arrays[f"{which}images"])
    probs = None
    if f"{which}probs" in arrays:
        from harness.data.arrays import probabilities  # imports torch

        if arrays[f"{which}probs"].ndim != 2:
            raise _wrong(path, f"{which}probs must be (n, c) probabilities; it is {arrays[f'{which}probs'].shape}")
        probs = probabilities(f"arrays[path={path}]: {which}probs", arrays[f"{which}probs"]).numpy()
    for name, values in (("features or images", inputs), ("probs", probs)):
        if values is not None and len(values) != len(texts):
            raise _wrong(path, f"{which}labels has {len(texts)} entries, {which}{name} {len(values)}")
    rows = np.flatnonzero(texts != "")
    if not len(rows):
        raise _wrong(path, f"{which}labels has no label")
    if len(rows) < len(texts):
        missing = np.flatnonzero(texts == "")
        _tell(path, f"{which}labels has none in {len(missing)} rows, which are left out; the first is row {missing[0]}")
        inputs = None if inputs is None else inputs[rows]
        probs = None if probs is None else probs[rows]
    return Part(inputs, numbered(texts[rows], classes), probs, rows)


def _features(path: str, name: str, features: np.ndarray) -> np.ndarray:
    """(n, d) finite numbers in the file's own precision, because samples may differ only in the last digits."""
    kind = f"it is {features.dtype} {features.shape}"
    if features.ndim != 2 or features.dtype.kind not in "fiub" or not features.shape[1]:
        raise _wrong(path, f"{name} must be (n, d) finite numbers; {kind}")
    if features.dtype.kind == "f" and not np.isfinite(features).all():
        raise _wrong(path, f"{name} must be (n, d) finite numbers; {kind}")
    return features


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
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else np.ascontiguousarray(images)


def _alike(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    return (ours is None) == (theirs is None) and (ours is None or theirs is None or ours.shape[1:] == theirs.shape[1:])


def _tell(path: str, what: str) -> None:
    warnings.warn(f"arrays[path={path}]: {what}", stacklevel=3)


def _wrong(path: str, what: str) -> RequestError:
    return RequestError(f"arrays[path={path}]: {what}")
