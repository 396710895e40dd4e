"""Progress: what a log file shows, how long a run is said to take, and what a long stage tells of itself."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.interfaces.telling import listening, tell
from harness.records.store import Store
from harness.running.estimate import Estimate
from harness.running.events import Begin
from harness.running.progress import Progress, in_words
from harness.selection.plan import Cell, group, make_plan


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def digits(methods: str, seeds: Sequence[int]) -> list[tuple[Cell, ...]]:
    return [members.cells for members in group(make_plan(methods, "digits", seeds, "fair", "smoke"), None)]


def test_the_estimate_weighs_stages_by_what_they_took() -> None:
    """Training 10 s, scores 1 s and 5 s, retraining 4 s per cell, for three seeds."""
    groups, clock = digits("outlier_l1,outlier_l2", range(3)), Clock()
    estimate = Estimate(groups, clock=clock)
    assert estimate.left() is None
    seconds = {"outlier_l1": 1.0, "outlier_l2": 5.0}
    whole = 10 + 6 + 2 * 4
    for done, cells in enumerate(groups):
        estimate.begin("train", cells)
        clock.now += 10
        for cell in cells:
            estimate.begin("score", [cell])
            if done:  # everything has run once
                score_left = sum(seconds[c.method.name] for c in cells[cells.index(cell) :])
                assert estimate.left() == pytest.approx(score_left + 8 + (2 - done) * whole)
            clock.now += seconds[cell.method.name]
        estimate.begin("retrain", cells)
        clock.now += 3
        if done:
            assert estimate.left() == pytest.approx(5 + (2 - done) * whole)
        clock.now += 5
        for cell in cells:
            estimate.finished(cell)
        assert estimate.left() == pytest.approx((2 - done) * whole)


def test_a_stage_that_is_late_is_not_negative_and_a_new_one_is_like_others() -> None:
    groups, clock = digits("outlier_l1,outlier_l2", range(2)), Clock()
    estimate = Estimate(groups, clock=clock)
    estimate.begin("train", groups[0])
    clock.now = 10
    estimate.begin("score", groups[0][:1])
    assert estimate.left() == pytest.approx(10)  # the other seed's training; of scores nothing is known
    clock.now = 12
    estimate.begin("score", groups[0][1:])
    clock.now = 100
    assert estimate.left() == pytest.approx(10 + 2 * 2)  # both methods are expected to take 2 s on the other seed


def test_earlier_runs_tell_before_anything_has_run(tmp_path: Path) -> None:
    harness.run("outlier_l1,data_oob", "digits", 1, preset="smoke", out=tmp_path)
    records = list(Store(tmp_path).headers())
    new = digits("outlier_l1,data_oob", range(1, 4))
    by_method = {record.method: record for record in records}
    one = max((record.train_seconds or 0) + (record.extract_seconds or 0) for record in records)
    one += sum((record.score_seconds or 0) + (record.retrain_seconds or 0) for record in records)
    assert Estimate(new, records).left() == pytest.approx(3 * one, rel=1e-6)
    assert Estimate(new, records, workers=3).left() == pytest.approx(one, rel=1e-6)
    assert by_method["data_oob"].score_seconds is not None


def test_a_log_file_gets_a_line_per_seed_and_a_heartbeat(capsys: pytest.CaptureFixture[str]) -> None:
    (cells,) = digits("outlier_l1", [0])
    progress = Progress(heartbeat=0.05)
    with progress.of([cells]):
        progress(Begin("train", cells))
        tell("epoch 3 of 10")
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 7
    assert re.fullmatch(r"\[0/1\] digits seed 0: training the base model, epoch 3 of 10 · 0 s", lines[0])
    tell("nobody listens")
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (cells,) = digits("outlier_l1", [0])
    progress = Progress(quiet=True, heartbeat=0.01)
    with progress.of([cells]):
        progress(Begin("train", cells))
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_run_shows_its_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r")
    for seeds in ("1", "2"):
        assert main(["run", "--methods", "outlier_l1,none", "--tasks", "digits", "--seeds", seeds, "--preset", "smoke",
                     "--out", out]) == 0  # fmt: skip
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert [re.sub(r" · .*", "", line) for line in lines] == ["[2/2] digits seed 0", "[2/2] digits seed 1"]


def test_trainings_tell_their_epochs(tmp_path: Path, cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = harness.task("cifar10n", preset="smoke", n_train=None, n_test=None, n_validation=4, epochs=2, batch_size=8)
    split, _ = task.load(0)
    told: list[str] = []
    with listening(told.append):
        task.train(split, None, 0)
    assert told == ["epoch 1 of 2", "epoch 2 of 2"]
    tell("nobody listens")
    assert len(told) == 2


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (7500, "2 h 5 min")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
