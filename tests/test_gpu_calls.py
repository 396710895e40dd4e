"""The calls for a GPU, tried on the CPU at small size: each writes its results, and goes on where it was cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.results.folder import Results
from tests.gpu import speed, studies, training
from tests.gpu.steps import TRIES, Steps


def ended(path: Path) -> dict[str, dict[str, Any]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return {entry["step"]: entry for entry in entries if "begun" not in entry}


def test_steps_are_done_once(tmp_path: Path) -> None:
    counts = {"sound": 0, "faulty": 0}

    def sound() -> dict[str, int]:
        counts["sound"] += 1
        return {"value": 7}

    def faulty() -> dict[str, int]:
        counts["faulty"] += 1
        raise ValueError("out of luck")

    for _ in range(2):
        steps = Steps(tmp_path, "call", "cpu", 1)
        steps("sound", sound)
        steps("faulty", faulty)
        assert steps.end() == 0
    assert counts == {"sound": 1, "faulty": 2}
    found = ended(tmp_path / "call.jsonl")
    assert found["sound"]["value"] == 7
    assert found["faulty"]["error"] == "ValueError: out of luck"


def test_no_step_begins_after_its_time_or_after_killing_its_process_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = Steps(tmp_path, "call", "cpu", 0)
    late("late", lambda: {"value": 1})
    assert late.end() == 1
    assert "no time was left for late: give the same command again" in capsys.readouterr().out
    assert not (tmp_path / "call.jsonl").exists()

    kill = "import os; from pathlib import Path; from tests.gpu.steps import Steps; "
    kill += f"Steps(Path({str(tmp_path)!r}), 'call', 'cpu', 1)('deadly', lambda: os._exit(9))"
    for tried in range(TRIES + 1):
        code = subprocess.run([sys.executable, "-c", kill], check=False).returncode
        assert code == (9 if tried < TRIES else 0)


def test_speed(tmp_path: Path) -> None:
    speed.run(Steps(tmp_path, "speed", "cpu", 2), small=True)
    found = ended(tmp_path / "speed.jsonl")
    assert found["bandwidth"]["read_bytes_per_second"] > 1e8
    scored = found["datainf, c=4, fair"]
    assert 0 < scored["seconds"] < 60
    assert scored["rounds"] == speed.ROUNDS
    floor = 4 * 300 * 9 / found["bandwidth"]["read_bytes_per_second"]
    assert scored["reading_features_seconds"] == pytest.approx(floor)
    assert "need a task that records its training" in found["aum, c=4, fair"]["skipped"]


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    training.run(Steps(tmp_path, "training", "cpu", 2), small=True)
    found = ended(tmp_path / "training.jsonl")
    assert found["smoke, float32"]["images_per_second"] > 1
    assert "conv" in (tmp_path / "profile-smoke.txt").read_text()


@pytest.mark.slow
def test_a_study_is_packed_and_goes_on_from_its_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    studies.run(Steps(out, "paper", "cpu", 3), True, "paper", None)
    assert ended(out / "paper.jsonl")["small"]["exit_code"] == 0
    store = tmp_path / "out-paper"
    kept = {record.method for record in Results.read(store).records}
    assert kept == {"random", "self_confidence"}

    store.rename(tmp_path / "lost")
    (out / "paper.jsonl").unlink()
    studies.run(Steps(out, "paper", "cpu", 3), True, "paper", None)
    assert (out / "paper.log").read_text().count("[2/2]") == 1  # nothing was computed again
