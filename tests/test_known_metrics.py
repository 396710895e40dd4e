"""Metrics that are kept beside the scores: used while the scores are untouched, computed again otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.records.store import Store
from harness.results import known_metrics


def test_kept_metrics_are_used_while_the_scores_are_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = harness.run("outlier_l1,outlier_l2,random", "moons", 1, preset="smoke", out=tmp_path)
    read: list[str] = []
    original = Store.arrays
    monkeypatch.setattr(Store, "arrays", lambda store, record: read.append(record.method) or original(store, record))

    def loaded() -> tuple[list[str], pd.DataFrame]:
        read.clear()
        frame = harness.load_results(tmp_path)
        return sorted(read), frame

    def assert_same(frame: pd.DataFrame) -> None:
        pd.testing.assert_frame_equal(frame, expected)

    methods, frame = loaded()
    assert methods == []
    assert_same(frame)
    os.utime(next(tmp_path.rglob("records/*/random/*.npz")), ns=(0, 0))
    methods, frame = loaded()
    assert methods == ["random"]
    assert_same(frame)
    for damage in ("", "[]", '{"version": 1}', '{"version": "x", "metrics": {"a": 1}}'):
        (tmp_path / "metrics.json").write_text(damage)
        methods, frame = loaded()
        assert methods == ["outlier_l1", "outlier_l2", "random"], damage
        assert_same(frame)
    kept = json.loads((tmp_path / "metrics.json").read_text())
    name = next(iter(kept["metrics"]))
    kept["metrics"][name][-1]["auroc"] = "<b>1</b>"
    (tmp_path / "metrics.json").write_text(json.dumps(kept))
    assert_same(loaded()[1])
    next(tmp_path.rglob("records/*/random/*.npz")).unlink()
    with pytest.warns(UserWarning, match="scores are unreadable"):
        assert set(harness.load_results(tmp_path)["method"]) == {"outlier_l1", "outlier_l2"}


def test_metrics_are_computed_again_when_their_code_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.run("random", "moons", 1, preset="smoke", out=tmp_path)
    monkeypatch.setattr(known_metrics, "detection_metrics", lambda arrays: {"auroc": 0.25})
    frame = harness.load_results(tmp_path)
    assert frame.set_index("metric")["value"]["auroc"] != 0.25
    monkeypatch.setattr(known_metrics, "modules_version", lambda names: "another")
    frame = harness.load_results(tmp_path)
    assert frame.set_index("metric")["value"]["auroc"] == 0.25


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = harness.run("random", "moons", 1, preset="smoke", out=tmp_path)
    (tmp_path / "metrics.json").unlink()

    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(known_metrics, "write_whole", refused)
    pd.testing.assert_frame_equal(harness.load_results(tmp_path), expected)
    assert not (tmp_path / "metrics.json").exists()
