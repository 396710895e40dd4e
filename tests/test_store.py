"""The store: stale, damaged, foreign, copied and former records."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.errors import RequestError
from harness.records.store import Store
from harness.selection.registry import METHODS
from tests.runs import run


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
