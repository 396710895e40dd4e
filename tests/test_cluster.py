"""Dask's workers: results as elsewhere, workers and schedulers that die, limits, and workers that lack something."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import RequestError
from harness.records.store import Store
from harness.running.cluster import ELSEWHERE, _lacks, _place
from harness.running.options import Options
from harness.selection.registry import METHODS
from harness.selection.versions import machinery_version
from tests import hostile_methods
from tests.runs import run

pytest.importorskip("distributed")

SLOW = """
import os, time
import numpy as np

def slow(view):
    place = os.environ["MARKS"]
    open(os.path.join(place, f"{os.getpid()}-{time.monotonic_ns()}"), "w").close()
    time.sleep(2)
    return -view.probs[np.arange(view.n), view.labels]
"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))


@contextmanager
def cluster(tmp_path: Path, workers: int, **environment: str) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler and workers in processes of their own: the scheduler's address, and the processes."""
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}

    def start(*command: str) -> subprocess.Popen[str]:
        log = (tmp_path / f"{len(started)}.log").open("w")
        process = subprocess.Popen([sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
                                   stdout=log, stderr=log, text=True, env=known, cwd=tmp_path)  # fmt: skip
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    try:
        start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(tmp_path / "scheduler.json"))
        deadline = time.monotonic() + 60
        while not (found := re.search(r"tcp://[\d.]+:\d+", _text(tmp_path / "scheduler.json"))):
            assert time.monotonic() < deadline, _text(tmp_path / "0.log")
            time.sleep(0.1)
        for _ in range(workers):
            start("dask_worker", found.group(), "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path))
        yield found.group(), started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def metrics(out: Path) -> dict[str, tuple[str, dict[str, float]]]:
    return {record.slot: (record.status, record.metrics) for record, _ in Store(out).records()}


def _plugin(tmp_path: Path) -> str:
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    return str(path)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("MARKS", str(marks))
    plugin = _plugin(tmp_path)
    run(tmp_path / "one", "slow,outlier_l2", "moons[steps=20|30|40|50]", 1, plugins=[plugin])
    for mark in marks.iterdir():
        mark.unlink()
    with cluster(tmp_path, 2, MARKS=str(marks)) as (address, _):
        import threading

        killed: list[int] = []

        def kill_the_first() -> None:
            deadline = time.monotonic() + 120
            while not killed and time.monotonic() < deadline:
                for mark in marks.iterdir():
                    killed.append(int(mark.name.partition("-")[0]))
                    os.kill(killed[0], signal.SIGKILL)
                    return
                time.sleep(0.05)

        killer = threading.Thread(target=kill_the_first)
        killer.start()
        run(tmp_path / "two", "slow,outlier_l2", "moons[steps=20|30|40|50]", 1, plugins=[plugin], backend="dask",
            scheduler=address)  # fmt: skip
        killer.join()
    assert killed
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert one == two
    assert len(one) == 8


@pytest.mark.slow
def test_limits_hold_on_workers(tmp_path: Path) -> None:
    methods = "hanging,hard_exit,greedy,self_confidence"
    frame = run(tmp_path / "out", methods, plugins=[hostile_methods.__file__], backend="dask", jobs=1, timeout=8,
                memory=3)  # fmt: skip
    cells = frame.drop_duplicates("method").set_index("method")
    assert cells["status"].to_dict() == {
        "hanging": "timeout",
        "hard_exit": "failed",
        "greedy": "out_of_memory",
        "self_confidence": "ok",
    }


@pytest.mark.slow
def test_a_cell_that_kills_its_workers_fails_and_the_others_are_done(tmp_path: Path) -> None:
    frame = run(tmp_path / "out", "self_confidence,killed", "moons,blobs", plugins=[hostile_methods.__file__],
                backend="dask", jobs=2, isolate=True)  # fmt: skip
    status = frame.drop_duplicates(["task", "method"]).groupby("method")["status"].agg(set)
    assert status.to_dict() == {"killed": {"out_of_memory"}, "self_confidence": {"ok"}}


@pytest.mark.slow
def test_a_group_is_given_to_another_worker_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("MARKS", str(marks))
    path = tmp_path / "deadly.py"
    path.write_text(SLOW.replace("def slow", "def deadly").replace("time.sleep(2)", "os.kill(os.getpid(), 9)"))

    frame = run(tmp_path / "out", "deadly", "moons", plugins=[str(path)], backend="dask", jobs=1)

    (cell,) = frame.drop_duplicates("method").itertuples()
    assert (cell.status, cell.error) == (
        "failed",
        "each worker that ran its group died; --isolate tells which cell ends them",
    )
    assert len(list(marks.iterdir())) == ELSEWHERE + 1


@pytest.mark.slow
def test_the_end_of_the_scheduler_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("MARKS", str(marks))
    plugin = _plugin(tmp_path)
    with cluster(tmp_path, 1, MARKS=str(marks)) as (address, processes):
        command = [sys.executable, "-m", "harness", "run", "--methods", "slow", "--plugin", plugin, "--seeds", "1",
                   "--tasks", "moons[steps=20|30|40|50|60|70]", "--preset", "smoke", "--backend", "dask", "--scheduler",
                   address, "--out", str(tmp_path / "out")]  # fmt: skip
        asked = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while len(list(marks.iterdir())) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        processes[0].kill()
        _, told = asked.communicate(timeout=120)
    assert asked.returncode == 2, told
    assert "Traceback" not in told
    assert f"the connection to Dask's scheduler {address} is lost" in told
    kept = metrics(tmp_path / "out")
    assert {status for status, _ in kept.values()} == {"ok"}
    assert 1 <= len(kept) < 6


@pytest.mark.slow
def test_a_worker_of_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.running.cluster.machinery_version", lambda: "other")
    said = r"Dask's worker tcp://.* cannot run cells: its harness is of another version"
    with cluster(tmp_path, 1) as (address, _), pytest.raises(RequestError, match=said):
        run(tmp_path / "out", tasks="moons", backend="dask", scheduler=address)


@pytest.mark.slow
def test_workers_that_come_late_are_waited_for_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a queue; the first one lacks nothing, a later one has other code."""
    monkeypatch.setattr("harness.running.cluster.PATIENCE", 1)
    with cluster(tmp_path, 0) as (address, processes):
        import threading

        def start() -> None:
            command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            processes.append(subprocess.Popen([*command, "--no-dashboard"], text=True, env=environment, cwd=tmp_path))

        late = threading.Timer(2, start)
        late.start()
        with pytest.warns(UserWarning, match="has no workers yet; waiting for one"):
            frame = run(tmp_path / "out", "random", "moons", 2, backend="dask", scheduler=address)
        late.join()
    assert set(frame["status"]) == {"ok"}

    monkeypatch.setattr("harness.running.cluster._ready", lambda *_: None)
    monkeypatch.setattr("harness.running.cluster.machinery_version", lambda: "other")
    said = r"Dask's worker tcp://.* cannot run cells: its harness is of another version"
    with cluster(tmp_path, 1) as (address, _), pytest.raises(RequestError, match=said):
        run(tmp_path / "late", "random", "moons", backend="dask", scheduler=address)


def test_workers_of_a_machine_share_its_devices() -> None:
    workers = ["tcp://10.0.0.2:40", "tcp://10.0.0.1:41", "tcp://10.0.0.1:40", "tcp://10.0.0.11:1"]
    assert [_place(address, workers) for address in workers] == [0, 1, 0, 0]


def test_what_a_worker_lacks(tmp_path: Path) -> None:
    version = machinery_version()
    assert _lacks(Options(), version) == ""
    assert _lacks(Options(data_dir="/nowhere"), version) == "it has no folder /nowhere"
    assert _lacks(Options(plugins=("/nowhere/mine.py",)), version) == "/nowhere/mine.py: there is no such file"
    assert "this machine has 0 CUDA devices" in _lacks(Options(device="cuda:7"), version)


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.running.cluster.PATIENCE", 1)
    with pytest.raises(RequestError, match=r"--scheduler tcp://127.0.0.1:9 cannot be reached"):
        run(tmp_path / "out", backend="dask", scheduler="tcp://127.0.0.1:9")
