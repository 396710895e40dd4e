"""Reading a user's own data: looks at what is given and picks the reader."""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RequestError
from tasks._own_content import TABLES, Content, listed, of_table, read_table
from tasks._own_folders import hub_dataset, of_dataset, read_folder

HELD: dict[str, tuple[Any, Any]] = {}
"""Objects in memory with their labels, by the name that a task has as its path."""

MEMORY = "memory:"

ARRAYS = (".npz", ".npy")


def hold(data: Any, labels: Any) -> str:
    """Keep an object in memory, and return the name by which `read` finds the object.

    Args:
        labels: the labels, or None if the object holds the labels itself.
    """
    name = f"{MEMORY}{type(data).__name__}-{_digest_of(data, labels)}"
    HELD[name] = (data, labels)
    return name


def read(path: str, labels: str | None, ignore: Sequence[str], groups: str | None) -> Content:
    """The content of a path or of an object in memory. The last contents are kept.

    Raises:
        RequestError: nothing is there, or the data cannot be read as asked.
    """
    try:
        return _read(path, labels, tuple(ignore), groups, "" if path.startswith(MEMORY) else version_of(path))
    except OSError as error:  # a file may disappear meanwhile, and a folder may be closed to this user
        raise RequestError(f"{path} cannot be read: {error.strerror}: {error.filename}") from error


@functools.lru_cache(maxsize=2)
def _read(path: str, labels: str | None, ignore: tuple[str, ...], groups: str | None, version: str) -> Content:
    if path.startswith(MEMORY):
        return _of_object(path, labels, ignore, groups)
    file = Path(path).expanduser()
    if file.is_dir():
        return read_folder(file, labels, ignore, groups)
    if file.suffix.lower() in TABLES and file.is_file():
        return of_table(path, read_table(file, labels), labels, ignore, groups, file.parent)
    if file.suffix.lower() in ARRAYS and file.is_file():
        if groups or ignore:
            raise RequestError(f"{path} has no columns, so --groups and --ignore do not fit; give a table")
        return _of_arrays(path, _loaded(file), labels)
    if file.is_file():
        raise RequestError(
            f"{path} is of no known form; give a table ({', '.join(TABLES)}), arrays (.npz, .npy), a folder of images, "
            "or a dataset that save_to_disk wrote"
        )
    local = path.startswith((".", "~", "/")) or path.endswith("/") or (file.parent.is_dir() and str(file.parent) != ".")
    if path and path.count("/") <= 1 and not file.suffix and not local:
        return of_dataset(path, hub_dataset(path), labels, ignore, groups)
    what = path or "DATA is empty, and"
    raise RequestError(f"{what} is not there; give a file, a folder, or the name of a dataset on the Hugging Face hub")


def version_of(path: str) -> str:
    """A hash of a file's content, or of a folder's file names, sizes and times. Empty if nothing is there."""
    file = Path(path).expanduser()
    if file.is_file():
        stat = file.stat()
        return _hash_of(str(file.resolve()), stat.st_size, stat.st_mtime_ns)
    if not file.is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for folder, folders, names in os.walk(file):
        folders.sort()
        for name in sorted(names):
            stat = os.lstat(os.path.join(folder, name))  # of a link that leads nowhere, too
            digest.update(f"{folder}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@functools.lru_cache
def _hash_of(path: str, size: int, mtime_ns: int) -> str:
    """A file's hash, computed again only if its size or its time changes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _loaded(file: Path) -> dict[str, np.ndarray]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("it is a single array; give labels beside it, by numpy.savez(path, features=…, labels=…)")
        with content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # a damaged file can raise anything
        told = (str(error) or type(error).__name__).splitlines()[0]
        pickled = "allow_pickle" in told and (zipfile.is_zipfile(file) or file.suffix == ".npy")
        reason = "it holds Python objects, which are not read" if pickled else told
        reason = "it is damaged" if "allow_pickle" in told and not pickled else reason
        raise RequestError(f"{file} cannot be read: {reason}") from error


def _of_arrays(where: str, arrays: dict[str, np.ndarray], labels: str | None) -> Content:
    """Features (n, d), images (n, h, w[, 3]), probs (n, c) and labels (n,); any name may be that of the labels."""
    name = labels or "labels"
    if name not in arrays:
        raise RequestError(f"{where} has no array {name!r}; it holds {listed([*arrays])}")
    features = arrays.get("features", arrays.get("embeddings"))
    return _of_values(where, features, arrays.get("images"), arrays.get("probs"), arrays[name])


def _of_values(where: str, features: Any, images: Any, probs: Any, labels: Any) -> Content:
    import pandas as pd

    given = np.asarray(labels)
    if given.ndim != 1 or not len(given):
        raise RequestError(f"{where}: labels must be one-dimensional and not empty; the shape is {given.shape}")
    arrays = {"features": features, "images": images, "probs": probs}
    known = {name: np.asarray(values) for name, values in arrays.items() if values is not None}
    if not known:
        raise RequestError(f"{where} needs features (n, d), images (n, h, w[, 3]) or probs (n, c) beside the labels")
    for name, values in known.items():
        if len(values) != len(given):
            raise RequestError(f"{where}: labels has {len(given)} entries, {name} {len(values)}")
        if name != "images" and (values.ndim != 2 or values.dtype.kind not in "fiub" or not values.shape[1]):
            raise RequestError(f"{where}: {name} must be (n, d) numbers; it is {values.dtype} {values.shape}")
        if name != "images" and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
            raise RequestError(f"{where}: {name} has values that are not finite, the first in row {row}")
    pictures = known.get("images")
    odd = pictures is not None and (
        pictures.dtype != np.uint8
        or pictures.ndim not in (3, 4)
        or not pictures.size
        or (pictures.ndim == 4 and not {pictures.shape[1], pictures.shape[3]} & {1, 3})
    )
    if pictures is not None and odd:
        raise RequestError(
            f"{where}: images must be uint8 (n, h, w, 3) or (n, h, w); it is {pictures.dtype} {pictures.shape}"
        )
    table = pd.DataFrame(index=range(len(given)))
    told = ", ".join(f"{name} {values.shape}" for name, values in known.items())
    return Content(
        where,
        table,
        given,
        images=None if pictures is None else list(pictures),
        values=known.get("features"),
        probs=known.get("probs"),
        notes=[f"The arrays are {told}."],
    )


def _of_object(path: str, labels: str | None, ignore: Sequence[str], groups: str | None) -> Content:
    import pandas as pd

    if path not in HELD:
        raise RequestError(f"{path} is an object of another process; write the data to a file")
    data, given = HELD[path]
    where = type(data).__name__
    if type(data).__module__.startswith("datasets.") and hasattr(data, "features"):
        return of_dataset(where, data, labels, ignore, groups)
    if given is not None:
        given = _one_label_each(where, data, given)
    if isinstance(data, pd.DataFrame):
        if given is None:
            return of_table(where, data, labels, ignore, groups)
        name = next(n for n in ("label", "given label", "label for harness.find") if n not in data.columns)
        return of_table(where, data.assign(**{name: given}), name, ignore, groups)
    if ignore or groups:
        raise RequestError(f"a {where} has no columns, so ignore= and groups= do not fit; give a DataFrame")
    if given is None:
        raise RequestError(f"labels is missing: give the labels of the {where}, as labels=…")
    if isinstance(data, pd.Series) and data.dtype.kind not in "fiub":
        data = data.tolist()
    if isinstance(data, list | tuple) and len(data) and all(isinstance(value, str) for value in data):
        return of_table(where, pd.DataFrame({"text": list(data), "label": given}), "label", ignore, groups)
    values = _array(where, data)
    images = values if values.dtype == np.uint8 and values.ndim in (3, 4) else None
    return _of_values(where, values if images is None else None, images, None, given)


def _one_label_each(where: str, data: Any, given: Any) -> np.ndarray:
    """The labels in the order of the data, (n,).

    Raises:
        RequestError: another number of labels, or a Series with another index than the DataFrame's.
    """
    import pandas as pd

    indexed = isinstance(given, pd.Series) and isinstance(data, pd.DataFrame | pd.Series)
    if indexed and not given.index.equals(data.index):
        if not (given.index.is_unique and len(given) == len(data) and set(given.index) == set(data.index)):
            raise RequestError(f"labels has another index than the {where}; give labels of the same index, or a list")
        given = given.loc[data.index]
    values = np.asarray(given)
    size = len(data) if hasattr(data, "__len__") else 0
    if values.ndim != 1 or len(values) != size:
        raise RequestError(f"labels needs one entry per sample; its shape is {values.shape}, the {where} has {size}")
    return values


def _array(where: str, data: Any) -> np.ndarray:
    from harness.data.arrays import tensor_of

    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        return data
    known = isinstance(data, np.ndarray | list | tuple) or hasattr(data, "detach") or hasattr(data, "__array__")
    if not known:
        raise RequestError(
            f"data= is a {where}; give a path, a DataFrame, a datasets.Dataset, a list of texts, or an array; a torch "
            "module with its DataLoader goes to harness.view_of"
        )
    tensor = tensor_of("data", data)
    if tensor.dtype.itemsize == 2 and tensor.is_floating_point():
        tensor = tensor.float()
    return np.asarray(tensor.detach().cpu().numpy())


def _digest_of(data: Any, labels: Any) -> str:
    """A hash of an object's values and types, so that the same values have the same name."""
    import pandas as pd

    digest = hashlib.blake2b(digest_size=8)
    for part in (data, labels):
        if isinstance(part, pd.DataFrame | pd.Series):
            frame = part.to_frame() if isinstance(part, pd.Series) else part
            told = [(str(name), str(kind)) for name, kind in frame.dtypes.items()]
            digest.update(repr((told, list(map(str, frame.index[:1000])))).encode(errors="replace"))
            try:
                digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
            except (TypeError, UnicodeError):  # lists, or texts that no encoding knows
                digest.update(repr(frame.to_numpy().tolist()).encode(errors="replace"))
        elif hasattr(part, "_fingerprint"):  # of a datasets.Dataset
            digest.update(str(part._fingerprint).encode())
        elif isinstance(part, list | tuple):
            for value in part:
                digest.update(str(value).encode(errors="replace") + b"\0")
        elif hasattr(part, "detach"):
            digest.update(str((part.dtype, part.shape)).encode() + part.detach().cpu().float().numpy().tobytes())
        elif isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(repr(part.tolist()).encode(errors="replace") if part.dtype == object else part.tobytes())
        elif part is not None:
            digest.update(repr(part).encode(errors="replace"))
    return digest.hexdigest()
