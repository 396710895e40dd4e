"""A cell that fails, crashes or takes too long is a row, and the run goes on; several processes."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.running import execute, lanes
from harness.running.events import Event
from harness.running.options import Options
from harness.selection.registry import METHODS, TASKS
from tests.runs import run

TROUBLES = """
import os, time
from dataclasses import dataclass
import numpy as np
from harness import Method, Unsupported, register_method

class Trouble(Method):
    def score(self, view):
        return self.act(view)

def method(title, act):
    cls = type(title, (Trouble,), {"name": title, "act": act, "__module__": __name__})
    globals()[title] = register_method(dataclass(frozen=True)(cls))

def raising(self, view): raise RuntimeError("on purpose")
def sleeping(self, view): time.sleep(300)
def dying(self, view): os._exit(7)
def shaped(self, view): return np.zeros(3)
def nothing(self, view): return np.full(view.n, np.nan)
def unable(self, view): raise Unsupported("not on this task")
def greedy(self, view): raise MemoryError("too much")
def tensorial(self, view): view.health["t"] = __import__("torch").tensor([1.0]); return view.labels
def leaving(self, view): raise SystemExit(0)
def silent(self, view): raise Unsupported
def partly(self, view): return np.where(np.arange(view.n) == 0, np.nan, view.labels)
for act in (raising, sleeping, dying, shaped, nothing, unable, greedy, partly, tensorial, leaving, silent):
    method("t_" + act.__name__, act)
"""


@pytest.fixture
def troubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    path = tmp_path / "troubles.py"
    path.write_text(TROUBLES)
    return str(path)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_cell_is_a_row_and_the_run_goes_on(tmp_path: Path, troubles: str, jobs: int) -> None:
    methods = "t_raising,t_shaped,t_nothing,t_unable,t_greedy,t_partly,t_tensorial,t_leaving,t_silent,outlier_l2"
    frame = run(tmp_path / "out", methods, seeds=2, plugins=[troubles], jobs=jobs)
    cells = frame.drop_duplicates(["method", "seed"])
    status = cells.groupby("method")["status"].agg(set)
    assert status["t_raising"] == status["t_shaped"] == status["t_nothing"] == {"failed"}
    assert status["t_unable"] == {"skipped"}
    assert status["t_greedy"] == {"out_of_memory"}
    assert status["t_partly"] == status["t_tensorial"] == status["outlier_l2"] == {"ok"}
    assert status["t_leaving"] == {"failed"}
    assert status["t_silent"] == {"skipped"}
    from reports.markdown import report

    assert "no reason" in report(frame)
    errors = cells[cells["seed"] == 0].set_index("method")["error"]
    assert errors["t_raising"].startswith("RuntimeError: on purpose (troubles.py:")
    assert "shape (3,)" in errors["t_shaped"]
    assert "none of the 250 scores is finite" in errors["t_nothing"]
    assert errors["t_unable"] == "not on this task"
    partly = cells[cells["method"] == "t_partly"].iloc[0]
    assert json.loads(partly["health"])["non_finite"] == 1


def test_failed_cells_run_again_when_asked(tmp_path: Path, troubles: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "out", "t_raising,outlier_l2", plugins=[troubles])
    cls = METHODS.get("t_raising")
    monkeypatch.setattr(cls, "act", lambda self, view: np.arange(view.n, dtype=float))
    untouched = run(tmp_path / "out", "t_raising,outlier_l2", plugins=[troubles])
    assert set(untouched["status"]) == {"ok", "failed"}
    mended = run(tmp_path / "out", "t_raising,outlier_l2", plugins=[troubles], rerun="failed")
    assert set(mended["status"]) == {"ok"}


def test_a_failing_task_fails_its_cells_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = TASKS.get("blobs")

    def broken(*_: object) -> None:
        raise RuntimeError("no data today")

    monkeypatch.setattr(cls, "load", broken)
    frame = run(tmp_path, "outlier_l2,none", "blobs,moons")
    assert set(frame[frame["task"] == "blobs"]["status"]) == {"failed"}
    assert set(frame[frame["task"] == "moons"]["status"]) == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_crash_in_one_of_several_jobs_is_its_own_cells(tmp_path: Path, troubles: str, timeout: float | None) -> None:
    frame = run(tmp_path / "out", "t_dying,outlier_l2", seeds=2, plugins=[troubles], jobs=2, timeout=timeout)
    status = frame.drop_duplicates(["method", "seed"]).groupby("method")["status"].agg(list)
    assert status["t_dying"] == ["failed", "failed"]
    assert status["outlier_l2"] == ["ok", "ok"]


@pytest.mark.slow
def test_time_limits_are_enforced_and_crashes_recorded(tmp_path: Path, troubles: str) -> None:
    start = time.monotonic()
    frame = run(tmp_path / "out", "outlier_l1,t_sleeping,t_dying,outlier_l2", plugins=[troubles], timeout=20)
    cells = frame.drop_duplicates("method").set_index("method")
    assert cells["status"].to_dict() == {
        "outlier_l1": "ok",
        "t_sleeping": "timeout",
        "t_dying": "failed",
        "outlier_l2": "ok",
    }
    assert "score took longer than 20 s" in cells.loc["t_sleeping", "error"]
    assert "exit code 7" in cells.loc["t_dying", "error"]
    assert time.monotonic() - start < 250
    plain = run(tmp_path / "plain", "outlier_l1,outlier_l2")
    values = frame.set_index(["method", "metric"])["value"].dropna()
    expected = plain.set_index(["method", "metric"])["value"]
    pd.testing.assert_series_equal(values, expected, check_like=True)


def test_several_jobs_give_the_same_results(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "outlier_*,lissa", "moons,blobs", 5)
    two = run(tmp_path / "two", "outlier_*,lissa", "moons,blobs", 5, jobs=2)
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(one[values], two[values])


@pytest.mark.slow
def test_dask_workers_give_the_same_results(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    one = run(tmp_path / "one", "outlier_*", "moons,blobs", 1)
    two = run(tmp_path / "two", "outlier_*", "moons,blobs", 1, jobs=2, backend="dask")
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(one[values], two[values])


def test_workers_share_the_gpus_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which GPU a worker takes depends on its number, not on the group that it runs."""
    gpus = ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr(execute, "devices", lambda options: gpus)
    taken = []
    for number in range(1, 7):
        monkeypatch.setattr(multiprocessing.current_process(), "_name", f"LokyProcess-{number}")
        taken.append(execute._own_device(Options()))
    assert sorted(taken) == sorted(2 * gpus)
    asked: list[str] = []

    def instead(groups: object, device: str, *_: object) -> Iterator[Event]:
        asked.append(device)
        return iter(())

    monkeypatch.setattr(lanes, "devices", lambda options: gpus)
    monkeypatch.setattr(lanes, "isolated", instead)
    assert list(lanes.in_lanes([], Options(jobs=6, isolate=True))) == []
    assert sorted(asked) == sorted(2 * gpus)


def test_a_mended_plugin_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    path = tmp_path / "mending.py"
    text = "from dataclasses import dataclass\nfrom harness import Method, register_method\n\n@register_method\n"
    text += (
        "@dataclass(frozen=True)\nclass M(Method):\n    name = 'mending'\n    def score(self, view):\n        return "
    )
    path.write_text(text + "1 / 0\n")
    broken = run(tmp_path / "out", "mending", plugins=[str(path)])
    path.write_text(text + "view.labels\n")
    mended = run(tmp_path / "out", "mending", plugins=[str(path)], rerun="failed")
    assert (set(broken["status"]), set(mended["status"])) == ({"failed"}, {"ok"})
    assert broken["versions"].iloc[0] != mended["versions"].iloc[0]
