"""The official CIFAR batches and CIFAR-N label files, read without unrestricted unpickling."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.files import Download
from harness.errors import RequestError

HUMAN = "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/49df7d8a69e355470c77c1c2f2424916325a394b/data/"


@dataclass(frozen=True)
class Release:
    """A CIFAR data set with its human labels, as published.

    Args:
        downloads: the image archive and the label file.
        train, test: the paths of the image files below the data folder, in order.
        label_key: the key of the labels in each image file.
        human: the file with the human labels.
        meta, names_key: the file with the class names, and the key of the names in this file.
        n_train, n_test: the number of training and test images of the complete data set.
    """

    downloads: tuple[Download, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: bytes
    human: str
    meta: str
    names_key: bytes
    n_classes: int
    n_train: int = 50_000
    n_test: int = 10_000


CIFAR10N = Release(
    (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            170_498_071,
            {
                "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
                "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
                "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
                "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
        Download(
            HUMAN + "CIFAR-10_human.pt",
            "96644db5574813cae939af5f7f2a0aec",
            2_401_007,
            {"CIFAR-10_human.pt": "96644db5574813cae939af5f7f2a0aec"},
        ),
    ),
    train=tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
    test=("cifar-10-batches-py/test_batch",),
    label_key=b"labels",
    human="CIFAR-10_human.pt",
    meta="cifar-10-batches-py/batches.meta",
    names_key=b"label_names",
    n_classes=10,
)

CIFAR100N = Release(
    (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            169_001_437,
            {
                "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
                "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
        Download(
            HUMAN + "CIFAR-100_human.pt",
            "a67b45c1d7992051865b5c755bd68bb1",
            1_000_959,
            {"CIFAR-100_human.pt": "a67b45c1d7992051865b5c755bd68bb1"},
        ),
    ),
    train=("cifar-100-python/train",),
    test=("cifar-100-python/test",),
    label_key=b"fine_labels",
    human="CIFAR-100_human.pt",
    meta="cifar-100-python/meta",
    names_key=b"fine_label_names",
    n_classes=100,
)


def read_batches(folder: Path, names: Sequence[str], label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of python-version CIFAR batches, in order.

    Raises:
        RequestError: a file is not a CIFAR batch.
    """
    images, labels = [], []
    for name in names:
        content = _unpickle((folder / name).read_bytes(), folder / name, encoding="bytes")
        try:
            rows, numbers = np.asarray(content[b"data"]), np.asarray(content[label_key], dtype=np.int64)
            if rows.dtype != np.uint8 or rows.shape != (len(numbers), 3072):
                raise ValueError(f"images of shape {rows.shape} {rows.dtype} with {len(numbers)} labels")
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise RequestError(f"{folder / name} is no CIFAR batch: {error}") from error
        images.append(rows.reshape(-1, 3, 32, 32))
        labels.append(numbers)
    return np.concatenate(images), np.concatenate(labels)


def read_names(path: Path, key: bytes) -> list[str]:
    """The classes' names.

    Raises:
        RequestError: a file without them.
    """
    content = _unpickle(path.read_bytes(), path, encoding="bytes")
    try:
        return [bytes(name).decode() for name in content[key]]
    except (LookupError, TypeError, ValueError) as error:
        raise RequestError(f"{path} holds no class names") from error


def read_human_labels(path: Path) -> dict[str, np.ndarray]:
    """The label arrays of a CIFAR-N ``.pt`` file, each (n,) int64.

    Raises:
        RequestError: the file is no such dictionary, or its arrays differ in length.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(member)
    except Exception as error:  # damaged archives raise a dozen kinds
        told = "it has no data.pkl" if isinstance(error, StopIteration) else error
        raise RequestError(f"{path} is no PyTorch file: {told}") from error
    labels = _unpickle(content, path, encoding="ASCII")
    try:
        arrays = {str(name): np.asarray(values, dtype=np.int64) for name, values in labels.items()}
        if len({len(values) for values in arrays.values()}) != 1:
            raise ValueError("its label arrays differ in length")
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
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
    """A safe replacement of ``_codecs.encode``, which numpy's pickles call with latin1 only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def _unpickle(content: bytes, path: Path, encoding: str) -> Any:
    try:
        return _ArraysOnly(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise RequestError(f"{path} cannot be read: {error}") from error
