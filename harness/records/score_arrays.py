"""The door for files of scores: a record's arrays have the kinds, shapes and lengths that all other code expects."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import typing
import zipfile
from collections.abc import Mapping

import numpy as np

from harness.records.schema import Damaged

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
MOST_HEADER = 2048
"""Bytes of an array's header; those of our arrays have 128."""
PER_SAMPLE = ("scores", "flagged", "noisy", "own_flagged", "labels", "predicted", "train_classes")
"""Arrays with one entry per training sample."""


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
    _check_kinds(arrays)
    _check_shapes(arrays, n_train)
    return arrays


def check_arrays(content: bytes, n_train: int | None) -> None:
    """As `arrays_of`, from the arrays' headers alone: their entries are what the record's checksum says.

    Raises:
        Damaged: see `arrays_of`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            headers = {}
            for member in members.infolist():
                name = member.filename.removesuffix(".npy")
                if name in KINDS:
                    with members.open(member) as file:
                        headers[name] = _Header.of(file, member.file_size)
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    _check_kinds(headers)
    _check_shapes(headers, n_train)


@dataclasses.dataclass(frozen=True)
class _Header:
    """An array's shape and type without its entries."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, file: typing.IO[bytes], size: int) -> _Header:
        """From the beginning of a ``.npy`` file of so many bytes."""
        start = file.read(MOST_HEADER)
        length = 10 + int.from_bytes(start[8:10], "little")  # of NumPy's first format, which our arrays have
        header, begin = _header(start[:length])
        if header.dtype.hasobject or math.prod(header.shape) * header.dtype.itemsize != size - begin:
            raise Damaged("an array of another size than its header says")
        return header


@functools.lru_cache(maxsize=256)
def _header(start: bytes) -> tuple[_Header, int]:
    """The header that a ``.npy`` file begins with, and its length. Records of a folder have few different ones."""
    file = io.BytesIO(start)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return _Header(shape, dtype), file.tell()


def _check_kinds(arrays: Mapping[str, np.ndarray | _Header]) -> None:
    for name, array in arrays.items():
        kinds, dimensions = KINDS[name]
        if array.dtype.kind not in kinds or len(array.shape) != dimensions:
            raise Damaged(f"{name} is {array.dtype} with {len(array.shape)} dimensions")


def _check_shapes(arrays: Mapping[str, np.ndarray | _Header], n_train: int | None) -> None:
    sizes = {arrays[name].shape[0] for name in PER_SAMPLE if name in arrays}
    if "attribution" in arrays:
        if not {"train_classes", "test_classes"} <= arrays.keys():
            raise Damaged("attributions without classes")
        sizes.add(arrays["attribution"].shape[1])
        if arrays["attribution"].shape[0] != arrays["test_classes"].shape[0]:
            raise Damaged("attributions of another number of test samples")
    elif not {"scores", "flagged"} <= arrays.keys():
        raise Damaged("no scores")
    if "losses" in arrays:
        if not {"attribution", "subsets"} <= arrays.keys():
            raise Damaged("losses without attributions or subsets")
        sizes.add(arrays["subsets"].shape[1])
        asked = arrays["subsets"].shape[0], arrays["attribution"].shape[0]
        if not arrays["losses"].shape[0] or 0 in asked or arrays["losses"].shape[1:] != asked:
            raise Damaged("losses of another number of subsets or test samples")
    if "own_flagged" in arrays and "estimated_errors" not in arrays:
        raise Damaged("own flags without their number")
    if len(sizes) > 1 or (n_train is not None and sizes != {n_train}):
        raise Damaged(f"lengths {sorted(sizes)} for {n_train} samples")
