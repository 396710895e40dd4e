"""The official CIFAR-10 batches and CIFAR-N label files, verified and read without unrestricted unpickling."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RequestError

CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR10N_MD5 = {"CIFAR-10_human.pt": "96644db5574813cae939af5f7f2a0aec"}

HOW_TO_GET = (
    "the folder cifar-10-batches-py (unpacked from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz) and the "
    "file CIFAR-10_human.pt (from https://github.com/UCSC-REAL/cifar-10-100n) in the data folder, which is --data-dir "
    "or the variable HARNESS_DATA"
)


def data_folder() -> Path:
    """The data folder: ``HARNESS_DATA``, which ``--data-dir`` sets.

    Raises:
        RequestError: none is set.
    """
    folder = os.environ.get("HARNESS_DATA")
    if not folder:
        raise RequestError(f"cifar10n needs its data: put {HOW_TO_GET}")
    return Path(folder)


def verify(folder: Path, md5: Mapping[str, str]) -> None:
    """Check that files are there and are the official ones.

    Args:
        folder: where they are.
        md5: the official checksum of each file name.

    Raises:
        RequestError: the first file that is missing or differs, and where to get it.
    """
    for name, expected in md5.items():
        path = folder / name
        try:
            stat = path.stat()
            actual = _md5(path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise RequestError(f"{path} {what}; put {HOW_TO_GET}") from error
        if actual != expected:
            raise RequestError(
                f"{path} is damaged or another release: its MD5 is {actual}, the official file's {expected}; "
                f"get it anew: put {HOW_TO_GET}"
            )


def read_batches(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of python-version CIFAR-10 batches, in order.

    Raises:
        RequestError: a file that is no such batch.
    """
    images, labels = [], []
    for name in names:
        content = _unpickle((folder / name).read_bytes(), folder / name, encoding="bytes")
        try:
            rows, numbers = np.asarray(content[b"data"]), np.asarray(content[b"labels"], dtype=np.int64)
            if rows.dtype != np.uint8 or rows.shape != (len(numbers), 3072):
                raise ValueError(f"images of shape {rows.shape} {rows.dtype} with {len(numbers)} labels")
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"{folder / name} is no CIFAR-10 batch: {error}") from error
        images.append(rows.reshape(-1, 3, 32, 32))
        labels.append(numbers)
    return np.concatenate(images), np.concatenate(labels)


def read_human_labels(path: Path) -> dict[str, np.ndarray]:
    """The label arrays of a CIFAR-N ``.pt`` file, each (n,) int64.

    Raises:
        RequestError: the file is no such dictionary, or its arrays differ in length.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(member)
    except (zipfile.BadZipFile, StopIteration, KeyError, OSError) as error:
        raise RequestError(f"{path} is no PyTorch file: {error or 'it has no data.pkl'}") from error
    labels = _unpickle(content, path, encoding="ASCII")
    try:
        arrays = {str(name): np.asarray(values, dtype=np.int64) for name, values in labels.items()}
        if len({len(values) for values in arrays.values()}) != 1:
            raise ValueError("its label arrays differ in length")
    except (AttributeError, TypeError, ValueError) as error:
        raise RequestError(f"{path} is no CIFAR-N label file: {error}") from error
    return arrays


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays; any other global is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")


def _latin1(text: str, encoding: str) -> bytes:
    """The one use that numpy makes of ``_codecs.encode``."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def _unpickle(content: bytes, path: Path, encoding: str) -> Any:
    try:
        return _ArraysOnly(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise RequestError(f"{path} cannot be read: {error}") from error


@functools.lru_cache
def _md5(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
