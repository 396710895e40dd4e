"""Files that are kept for later runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data.kept_files import ABANDONED, read_arrays, write_arrays


@pytest.mark.parametrize("compressed", [True, False])
def test_what_is_written_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "kept.npz"
    values = np.arange(1000.0)

    write_arrays(path, compressed, values=values, none=np.zeros((0, 3)))

    found = read_arrays(path)
    assert list(found) == ["values", "none"]
    np.testing.assert_array_equal(found["values"], values)
    assert (path.stat().st_size < 5000) == compressed
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_is_damaged_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "kept.npz"
    assert read_arrays(path) == {}
    write_arrays(path, values=np.arange(1000.0))
    raw = path.read_bytes()
    for place in range(0, len(raw), 7):
        path.write_bytes(raw[:place])
        assert read_arrays(path) == {}
    path.write_bytes(raw[:60] + b"\xff" * 40 + raw[100:])
    assert read_arrays(path) == {}


def test_what_killed_runs_left_is_deleted(tmp_path: Path) -> None:
    """But not what another run may be writing now."""
    old, young = tmp_path / ".old.tmp", tmp_path / ".young.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    then = time.time() - ABANDONED - 60
    os.utime(old, (then, then))

    write_arrays(tmp_path / "kept.npz", values=np.zeros(1))

    assert sorted(path.name for path in tmp_path.iterdir()) == [".young.tmp", "kept.npz"]
