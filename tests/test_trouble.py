"""A full disk, a folder that is gone, two writers, a clock that jumps: one sentence each, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.records.leftovers import leftovers
from harness.running.execute import execute
from tests.runs import run
from tests.test_kills import contents

METHODS = "outlier_l2,self_confidence,random,none"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    run(tmp_path / "whole", METHODS, "moons,blobs", 2)
    return tmp_path / "whole"


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, whole: Path, isolate: str) -> None:
    """The largest file that a process may write stands for the space that is left."""
    command = [sys.executable, "-m", "harness", "run", "--methods", METHODS, "--tasks", "moons,blobs", "--seeds", "2"]
    done = subprocess.run([*command, "--preset", "smoke", "--out", str(tmp_path / "out"), isolate],
                          capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False,
                          preexec_fn=lambda: _no_large_files(1_500))  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "cannot be written: File too large; all finished cells are kept" in done.stderr.splitlines()[-1]
    found = contents(tmp_path / "out")
    run(tmp_path / "out", METHODS, "moons,blobs", 2)
    expected = contents(whole)
    assert all(found[slot] == expected[slot] for slot in found)
    assert contents(tmp_path / "out") == expected
    assert not list((tmp_path / "out").rglob("*.tmp"))


def _no_large_files(most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_that_disappears_during_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    told: list[Any] = []

    def listened(cells: Any, store: Any, options: Any, listen: Any) -> None:
        def heard(event: Any) -> None:
            told.append(event)
            if len(told) == 4 and out.exists():
                shutil.move(out, moved)

        execute(cells, store, options, heard)

    monkeypatch.setattr("harness.api.execute", listened)
    with pytest.raises(RequestError, match="is no longer there; put it back, and run this again"):
        run(out, METHODS, "moons,blobs,digits", 2, isolate=jobs == 2, jobs=jobs)
    assert not out.exists(), "no second folder was begun"
    monkeypatch.undo()
    shutil.move(moved, out)
    run(out, METHODS, "moons,blobs,digits", 2)
    run(tmp_path / "plain", METHODS, "moons,blobs,digits", 2)
    assert contents(out) == contents(tmp_path / "plain")


@pytest.mark.slow
def test_two_writers_of_one_folder(tmp_path: Path, whole: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", "--methods", METHODS, "--tasks", "moons,blobs", "--seeds", "2"]
    command += ["--preset", "smoke", "--out", str(tmp_path / "out")]
    run(tmp_path / "out", "none", "moons", 1)
    writers = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        for _ in range(3)
    ]
    for writer in writers:
        _, told = writer.communicate(timeout=120)
        assert writer.returncode == 0, told
        assert "Traceback" not in told
    assert contents(tmp_path / "out") == contents(whole)


def test_a_clock_that_jumps(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files from the future or from long ago are what they are; only leftovers have an age."""
    expected = contents(whole)
    for shift in (-(10**8), 10**8):
        for path in whole.rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() + shift,) * 2)
        assert contents(whole) == expected
        assert main(["report", str(whole)]) == 0
        assert main(["status", str(whole)]) == 0
        data = harness.run(METHODS, "moons,blobs", 2, preset="smoke", out=whole)
        assert set(data["status"]) == {"ok"}
    half = whole / "records" / "moons" / ".half.tmp"
    half.write_bytes(b"")
    os.utime(half, (time.time() + 10**8,) * 2)
    assert leftovers(whole) == [], "a file from the future may be somebody's"
    capsys.readouterr()


@pytest.mark.skipif(sys.platform != "linux", reason="root's rights are taken away as Linux does it")
def test_a_folder_that_cannot_be_written_is_read_and_refused_by_run(tmp_path: Path, whole: Path) -> None:
    before = contents(whole)
    for path in [*whole.rglob("*"), whole]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "harness", *words], capture_output=True, text=True, check=False,
                              cwd=Path(__file__).parents[1], preexec_fn=_without_roots_rights)  # fmt: skip

    try:
        for words in (["status"], ["report"], ["suspects", "--method", "outlier_l2", "--task", "moons", "--seed", "0"]):
            done = asked(words[0], str(whole), *words[1:])
            assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        done = asked("run", "--out", str(whole), "--methods", METHODS, "--tasks", "digits", "--preset", "smoke")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"the results folder {whole} cannot be written" in done.stderr
    finally:
        for path in [whole, *whole.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert contents(whole) == before


def _without_roots_rights() -> None:
    """Root may write everything, unless it gives up CAP_DAC_OVERRIDE (1) before it executes a program."""
    import ctypes

    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP
