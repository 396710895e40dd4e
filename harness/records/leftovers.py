"""What an interrupted run leaves behind in a results folder: half-written files, and scores without a record."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

YOUNGEST = 60.0
"""Seconds. A younger file may belong to a run that is writing it now: scores are written before their record."""


def leftovers(folder: str | Path, now: float | None = None) -> list[Path]:
    """Temporary files of the store, and files of scores without a record, that are older than `YOUNGEST`, sorted.

    Args:
        folder: a results folder.
        now: seconds since the epoch; None for the present.
    """
    now = time.time() if now is None else now
    return sorted(path for path in _candidates(Path(folder)) if _age(path, now) > YOUNGEST)


def clear(paths: Iterable[Path]) -> int:
    """Delete files, and return how many were deleted. What is gone or cannot be deleted is passed over."""
    count = 0
    for path in paths:
        try:
            path.unlink()
            count += 1
        except OSError:
            continue
    return count


def _candidates(folder: Path) -> Iterable[Path]:
    for path in folder.rglob(".*.tmp"):
        if path.is_file() and not path.is_symlink():
            yield path
    for path in (folder / "records").glob("*/*/*.npz"):
        if not path.with_suffix(".json").exists():
            yield path


def _age(path: Path, now: float) -> float:
    try:
        return now - path.lstat().st_mtime
    except OSError:
        return 0.0
