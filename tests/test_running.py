"""Plan, runner and store: sharing, resuming, failing, time limits, interruption, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.errors import RequestError
from harness.records.store import Store
from harness.selection.registry import METHODS, TASKS

FAST = "outlier_l2,self_confidence,random,none"

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


def run(out: Path, methods: str = FAST, tasks: str = "moons", seeds: object = 1, **options: object) -> pd.DataFrame:
    return harness.run(methods, tasks, seeds, preset="smoke", out=out, **options)  # type: ignore[arg-type]


def scores(out: Path) -> dict[str, np.ndarray]:
    return {record.key: arrays["scores"] for record, arrays in Store(out).records()}


def test_the_same_command_twice_computes_once_and_scores_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "a", "all,-leave_one_out", "moons,blobs", 2)
    other = run(tmp_path / "b", "all,-leave_one_out", "moons,blobs", 2)
    for key, values in scores(tmp_path / "a").items():
        np.testing.assert_array_equal(values, scores(tmp_path / "b")[key])
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(first[values], other[values])
    monkeypatch.setattr("harness.running.group.run_group", lambda *_: pytest.fail("something ran again"))
    again = run(tmp_path / "a", "all,-leave_one_out", "moons,blobs", 2)
    pd.testing.assert_frame_equal(first, again)


def test_methods_of_a_seed_share_one_base_model_and_equal_kept_sets_one_retraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    cls = TASKS.get("moons")
    original = cls.train_all

    def counted(self, wanted):
        trained.append(sum(len(keeps) for _, keeps, _ in wanted))
        return original(self, wanted)

    monkeypatch.setattr(cls, "train_all", counted)
    # normalised margin and self-confidence order two classes alike, so they keep the same samples
    frame = run(tmp_path, "none,normalized_margin,self_confidence,outlier_l2,self_lissa")
    assert trained[0] == 1
    assert len(trained) == 2
    assert trained[1] < 4
    flags = {record.method: arrays["flagged"].tobytes() for record, arrays in Store(tmp_path).records()}
    assert trained[1] == len({mask for name, mask in flags.items() if name != "none"})
    assert frame.query("metric == 'accuracy_base'")["value"].nunique() == 1


def test_what_is_paired_is_paired(tmp_path: Path) -> None:
    """Another selection of methods, in another order, gives each method the same scores and accuracy."""
    together = run(tmp_path / "a", "all,-leave_one_out").set_index(["method", "metric"])["value"]
    for name in ("outlier_iforest", "random", "lissa"):
        alone = run(tmp_path / name, name).set_index(["method", "metric"])["value"]
        pd.testing.assert_series_equal(alone, together.loc[alone.index])


def test_records_say_how_they_came_about(tmp_path: Path) -> None:
    frame = run(tmp_path, "lissa")
    row = frame.iloc[0]
    assert (row["n_train"], row["n_flagged"], row["n_noisy"]) == (250, 25, 20)
    assert row["uses"] == "labels;gradients;clean validation"
    assert min(row["train_seconds"], row["extract_seconds"], row["score_seconds"], row["retrain_seconds"]) > 0
    assert row["peak_memory_mib"] > 10
    assert row["device"] == "cpu"
    health = json.loads(row["health"])["head"]
    assert health["converged"] in (True, False)
    assert health["relative_residual"] > 0
    assert {"accuracy", "accuracy_base", "accuracy_gain", "auroc", "precision"} <= set(frame["metric"])
    values = frame.set_index("metric")["value"]
    assert values["accuracy_gain"] == pytest.approx(values["accuracy"] - values["accuracy_base"])


def test_metrics_are_recomputed_from_raw_scores(tmp_path: Path) -> None:
    frame = run(tmp_path, "outlier_l2").set_index("metric")["value"]
    ((_, arrays),) = Store(tmp_path).records()
    order = np.argsort(-arrays["scores"])[:25]
    assert frame["precision"] == arrays["noisy"][order].mean()


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


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_crash_in_one_of_several_jobs_is_its_own_cells(tmp_path: Path, troubles: str, timeout: float | None) -> None:
    frame = run(tmp_path / "out", "t_dying,outlier_l2", seeds=2, plugins=[troubles], jobs=2, timeout=timeout)
    status = frame.drop_duplicates(["method", "seed"]).groupby("method")["status"].agg(list)
    assert status["t_dying"] == ["failed", "failed"]
    assert status["outlier_l2"] == ["ok", "ok"]


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


def test_ties_up_to_rounding_are_counted() -> None:
    from harness.running.scoring import largest_tie

    assert largest_tie(np.array([1.0, 1 + 1e-12, 2.0, 0.0])) == 2
    assert largest_tie(np.zeros(5)) == 5
    assert largest_tie(np.array([1e30, 1e3, 1e2, 10.0])) == 1, "each is judged against its own size"
    assert largest_tie(np.arange(4.0)) == 1


def test_several_jobs_give_the_same_results(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "outlier_*,lissa", "moons,blobs", 5)
    two = run(tmp_path / "two", "outlier_*,lissa", "moons,blobs", 5, jobs=2)
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(one[values], two[values])


def test_dask_workers_give_the_same_results(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    one = run(tmp_path / "one", "outlier_*", "moons,blobs", 1)
    two = run(tmp_path / "two", "outlier_*", "moons,blobs", 1, jobs=2, backend="dask")
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(one[values], two[values])


def test_interrupted_and_run_again_is_as_uninterrupted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    selection = ["--methods", "all,-leave_one_out", "--tasks", "moons,blobs,digits", "--seeds", "3"]
    command = [sys.executable, "-m", "harness", "run", *selection, "--preset", "smoke", "--out", str(out)]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        command,
        cwd=root,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
    )
    deadline = time.monotonic() + 120
    while not list(out.rglob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished cells are kept" in complaint
    assert "Traceback" not in complaint
    kept = {path: path.read_bytes() for path in out.rglob("*.json")}
    assert 0 < len(kept) < 15 * 9
    assert not list(out.rglob("*.tmp"))
    frame = run(out, "all,-leave_one_out", "moons,blobs,digits", 3)
    for path, content in kept.items():
        assert path.read_bytes() == content, "a finished cell was computed again"
    whole = run(tmp_path / "whole", "all,-leave_one_out", "moons,blobs,digits", 3)
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(frame[values], whole[values])


def test_moved_code_is_stale_and_never_reused_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.results.folder import Results
    from harness.selection.plan import make_plan

    run(tmp_path, "outlier_l2,random")
    monkeypatch.setattr(METHODS.get("random"), "version", 2)
    store = Store(tmp_path)
    states = {c.method.name: store.state(c) for c in make_plan("outlier_l2,random", "moons", [0], "fair", "smoke")}
    assert states == {"outlier_l2": "ok", "random": "stale"}
    run(tmp_path, "outlier_l2,random")
    results = Results.read(tmp_path)
    assert {record.method for record in results.records if record.key in results.stale} == {"random"}
    run(tmp_path, "outlier_l2,random", rerun="stale")
    assert not Results.read(tmp_path).stale


def test_damaged_and_foreign_files_are_reported_and_never_read(tmp_path: Path) -> None:
    run(tmp_path, "outlier_l1,outlier_l2,random,none")
    records = {path.parent.name: path for path in tmp_path.rglob("records/**/*.json")}
    torn = records["outlier_l1"]
    torn.write_text(torn.read_text()[:100])
    swapped = records["outlier_l2"].with_suffix(".npz")
    swapped.write_bytes(records["random"].with_suffix(".npz").read_bytes())
    (tmp_path / "records" / "moons" / "none" / "seed0-foreign.json").write_text('{"hello": 1}')
    with pytest.warns(UserWarning, match="left out") as caught:
        frame = harness.load_results(tmp_path)
    assert set(frame["method"]) == {"random", "none"}
    said = "\n".join(str(w.message) for w in caught)
    assert all(text in said for text in (torn.name, "seed0-foreign.json", "do not belong to the record"))
    with pytest.warns(UserWarning, match="left out"):
        mended = run(tmp_path, "outlier_l1")  # a torn record counts as missing
    assert "outlier_l1" in set(mended["method"])


def test_a_cell_whose_scores_are_gone_is_computed_anew(tmp_path: Path) -> None:
    whole = run(tmp_path, "outlier_l1,outlier_l2")
    next(tmp_path.rglob("outlier_l2/*.npz")).unlink()
    next(tmp_path.rglob("outlier_l1/*.npz")).write_bytes(b"garbage")
    with pytest.warns(UserWarning, match="scores are unreadable"):
        assert harness.load_results(tmp_path).empty
    pd.testing.assert_frame_equal(run(tmp_path, "outlier_l1,outlier_l2")[["key", "value"]], whole[["key", "value"]])


def test_a_copy_inside_the_records_is_not_counted_twice(tmp_path: Path) -> None:
    import shutil

    run(tmp_path, "outlier_l2")
    shutil.copytree(tmp_path / "records/moons/outlier_l2", tmp_path / "records/moons/backup")
    with pytest.warns(UserWarning, match="does not belong to this place"):
        assert harness.load_results(tmp_path)["key"].nunique() == 1


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


def test_the_data_folder_is_set_for_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    run(tmp_path / "out", "none", data_dir=tmp_path)
    assert "HARNESS_DATA" not in os.environ


def test_results_merge_by_copying(tmp_path: Path) -> None:
    import shutil

    run(tmp_path / "a", "outlier_l1")
    run(tmp_path / "b", "outlier_l2", "blobs")
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    assert set(harness.load_results(tmp_path / "a")["method"]) == {"outlier_l1", "outlier_l2"}


def test_folders_that_cannot_hold_results(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("precious")
    with pytest.raises(RequestError, match="holds other files"):
        run(tmp_path / "foreign")
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    with pytest.raises(RequestError, match="is a file"):
        run(tmp_path / "foreign" / "thesis.tex")
    with pytest.raises(RequestError, match="does not exist"):
        harness.load_results(tmp_path / "absent")
    with pytest.raises(RequestError, match="is no results folder"):
        harness.load_results(tmp_path / "foreign")


def test_cross_validated_probabilities(tmp_path: Path) -> None:
    """Out-of-sample probabilities come from models that did not see the sample, and detect noise too."""
    frame = run(tmp_path, "self_confidence,self_confidence[probs=out_of_sample]", "digits")
    auroc = frame[frame["metric"] == "auroc"].set_index("method_spec")["value"]
    assert auroc["self_confidence[probs=out_of_sample]"] > 0.9
    assert auroc.nunique() == 2
    uses = frame.set_index("method_spec")["uses"]["self_confidence[probs=out_of_sample]"].iloc[0]
    assert uses == "labels;probs;retraining"


def test_former_names_are_still_read(tmp_path: Path) -> None:
    """Of a preset, on the way in and in stored records, and of the fields that say what a cell is called."""
    frame = harness.run("random", "moons[steps=5,n_test=300]", 1, preset="paper", out=tmp_path)
    (path,) = tmp_path.glob("records/*/*/*.json")
    record = json.loads(path.read_text())
    assert record["preset"] == "full"
    former = {"preset": "paper", "task_label": record.pop("task_spec"), "method_label": record.pop("method_spec")}

    path.write_text(json.dumps(record | former))

    again = harness.run("random", "moons[steps=5,n_test=300]", 1, preset="full", out=tmp_path)
    pd.testing.assert_frame_equal(again, frame)
