"""Arrays that are kept for later runs: written whole, and read as missing if they are damaged."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

ABANDONED = 86_400.0
"""Seconds after which a half-written file belongs to no run any more."""


def write_arrays(path: Path, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Write a ``.npz`` file: into a temporary file, then into place. What runs that were killed left there is deleted.

    Args:
        path: in a folder that is there.
    """
    for old in path.parent.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - old.lstat().st_mtime > ABANDONED:
                old.unlink()
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    Path(file.name).chmod(0o644)  # temporary files are their owner's alone, and data folders are shared
    os.replace(file.name, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; none if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # damaged archives raise a dozen kinds
        return {}
