"""Odd results folders in every format, table and figure: an answer or one sentence, never a traceback."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.records.store import Record, Store

LOOKS = [
    *(["--format", form] for form in ("md", "html", "latex", "csv")),
    *(["--table", table] for table in ("1", "2", "5", "6", "7", "budget", "sweep")),
    *(["--figure", name] for name in ("1", "5", "inspection", "precision-recall", "cost", "scores", "correlation")),
    ["--figure", "ranks"],
    ["--figure", "protocols"],
    ["--baseline", "random"],
    ["--compare-protocols"],
    ["--judge", "random"],
]  # fmt: skip


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("usual") / "out"
    harness.run("self_confidence,outlier_l2,random,none", "moons", 2, preset="smoke", out=out)
    harness.run("self_confidence,outlier_l2,random", "moons", 1, preset="smoke", protocol="paper", out=out)
    return out


def changed(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply a change to every record of a folder."""
    for path in out.rglob("records/*/*/*.json"):
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))


def nan_metrics(record: dict[str, Any]) -> None:
    record["metrics"] = dict.fromkeys(record["metrics"], math.nan if record["seed"] else math.inf)


def failed(record: dict[str, Any]) -> None:
    if record["method"] == "outlier_l2":
        record |= {"status": "failed", "error": "no luck\nat all | $x_1$ \\n <b>", "scores_sha256": None, "metrics": {}}


def all_failed(record: dict[str, Any]) -> None:
    record |= {"status": "failed", "error": "", "scores_sha256": None, "metrics": {}}


def long_names(record: dict[str, Any]) -> None:
    record["method_title"] = f"{record['method']} " + "Longname_" * 7 + "$漢🙂Δ"
    record["task_title"] = "A task with a rather long title | $ \\ & % # _ { } ~ ^"


def escapes(record: dict[str, Any]) -> None:
    record["method_title"] = "\x1b[2J\x1b]0;owned\x07" + record["method_title"]
    record["task_title"] += "\x9b31m"
    if record["method"] == "outlier_l2":
        record |= {"status": "failed", "error": "\x1b[31mred\rover", "scores_sha256": None, "metrics": {}}


def test_no_escape_sequence_reaches_a_terminal(usual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from reports.terminal import terminal_tables

    out = tmp_path / "out"
    shutil.copytree(usual, out)
    changed(out, escapes)
    assert main(["report", str(out)]) == 0
    assert main(["status", str(out)]) == 0
    shown = capsys.readouterr()
    text = shown.out + shown.err + terminal_tables(harness.load_results(out))
    assert "red�over" in text
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(text)


def no_times(record: dict[str, Any]) -> None:
    record |= {name: None for name in record if name.endswith("_seconds")}
    record["cost"] = {}


def one_method_one_seed(record: dict[str, Any]) -> None:
    if record["method"] != "self_confidence" or record["seed"] or record["protocol"] == "paper":
        record |= {"status": "skipped", "error": "not here", "scores_sha256": None, "metrics": {}}


@pytest.mark.parametrize(
    "change", [nan_metrics, failed, all_failed, long_names, no_times, one_method_one_seed], ids=lambda c: c.__name__
)
def test_every_look_at_an_odd_folder(
    usual: Path, change: Callable[[dict[str, Any]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(usual, out)
    shutil.rmtree(out / "requests")
    changed(out, change)
    shown = 0
    for look in LOOKS:
        target = tmp_path / ("figure.png" if "--figure" in look else "text")
        code = main(["report", str(out), *look, "--output", str(target)])
        told = capsys.readouterr().err
        assert code in (0, 2), (look, told)
        assert (code == 0) == target.exists(), look
        assert "Traceback" not in told
        if code == 2:
            assert told.startswith("python -m harness report: "), (look, told)
        else:
            shown += 1
            assert b"nan \xc2\xb1 nan" not in target.read_bytes()
            target.unlink()
    assert shown >= 4  # every folder has its reports
    assert main(["status", str(out)]) == 0


def test_forty_methods_on_twenty_tasks(usual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every format within its limits: lines, columns and sections for all of them."""
    (record, arrays), *_ = (pair for pair in Store(usual).records() if pair[0].method == "random")
    out = Store(tmp_path / "many", create=True)
    rng = np.random.default_rng(0)
    for task in range(20):
        for method in range(40):
            made = Record(
                **{
                    **asdict(record),
                    "key": f"{task}-{method}",
                    "slot": f"{task:08d}{method:08d}",
                    "task": f"task{task}",
                    "task_spec": f"task{task}",
                    "task_title": f"Task {task}",
                    "method": f"method{method}",
                    "method_spec": f"method{method}",
                    "method_title": f"Method {method}",
                    "metrics": {**record.metrics, "auroc": float(rng.uniform())},
                    "scores_sha256": None,
                }
            )
            path = out.scores_file(made).with_suffix(".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(made)))
    assert arrays
    for form in ("md", "html", "latex"):
        assert main(["report", str(out.path), "--format", form, "--output", str(tmp_path / form)]) == 0
        text = (tmp_path / form).read_text()
        assert text.count("Method 39") >= 21, form  # in each section, and over all tasks
    assert main(["report", str(out.path), "--figure", "ranks", "--output", str(tmp_path / "ranks.png")]) == 0
    assert (tmp_path / "ranks.png").stat().st_size > 10_000
    capsys.readouterr()


def test_an_empty_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "empty", create=True)
    for look in LOOKS:
        assert main(["report", str(tmp_path / "empty"), *look]) == 2
        assert "holds no results yet" in capsys.readouterr().err
