"""Files that are kept: written whole, and, of arrays for later runs, read as missing if they are damaged."""

from __future__ import annotations

import io
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

ABANDONED = 86_400.0
"""Seconds after which a half-written file belongs to no run any more."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file: into a temporary file beside it, then into place. A pipe or a device is written as it is."""
    path = path.resolve()  # a link's target is replaced, not the link
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # a device or a pipe
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_arrays(path: Path, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Write a ``.npz`` file whole. What runs that were killed left in its folder long ago is deleted.

    Args:
        path: in a folder that is there.
    """
    for old in path.parent.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - old.lstat().st_mtime > ABANDONED:
                old.unlink()
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; none if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # damaged archives raise a dozen kinds
        return {}
