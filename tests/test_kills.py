"""Runs that are killed at any moment, also while they store: nothing is lost, nothing is wrong, and the same command
goes on. `tox -e survive` kills 500 times."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.records.store import Store
from harness.running.fork_server import process_context

KILLS = int(os.environ.get("HARNESS_KILLS", "4"))
METHODS, TASKS, SEEDS = "self_confidence,outlier_l2,datainf,random,none", "moons[budget=0.05|0.1|0.15|0.2],blobs", 4
WAYS: dict[str, dict[str, Any]] = {
    "one process": {},
    "two workers": {"jobs": 2},
    "isolated": {"isolate": True},
    "two isolated": {"isolate": True, "jobs": 2},
}


def _run(out: str, options: dict[str, Any]) -> None:
    """Runs in a process of its own."""
    os.setsid()
    harness.run(METHODS, TASKS, SEEDS, preset="smoke", out=out, **options)


def contents(out: Path) -> dict[str, tuple[str, dict[str, float], bytes]]:
    store = Store(out)
    found = {
        record.slot: (record.status, record.metrics, arrays["scores"].tobytes()) for record, arrays in store.records()
    }
    assert store.problems == []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_kills(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "whole"
    harness.run(METHODS, TASKS, SEEDS, preset="smoke", out=whole)
    expected = contents(whole)
    assert main(["report", str(whole), "--format", "csv"]) == 0
    capsys.readouterr()
    rng = np.random.default_rng(sorted(WAYS).index(way))
    started = {"one process": 1.0, "two workers": 4.0, "isolated": 4.0, "two isolated": 4.0}[way]
    kills = storing = folders = 0
    while kills < max(1, KILLS // len(WAYS)):
        folders += 1
        out = tmp_path / f"out{folders}"
        for _ in range(200):
            process = process_context().Process(target=_run, args=(str(out), WAYS[way]), daemon=False)
            process.start()
            before = len(list(out.rglob("*.json")))
            if rng.random() < 0.5:  # as soon as something is stored
                deadline = time.monotonic() + 60
                while process.is_alive() and len(list(out.rglob("*.json"))) <= before and time.monotonic() < deadline:
                    time.sleep(0.001)
                time.sleep(rng.random() * 0.05)
            else:
                process.join(rng.random() * started)
            if process.is_alive():
                kills += 1
                assert process.pid is not None
                with suppress(ProcessLookupError):  # it has not begun, or has just ended
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
                storing += len(list(out.rglob("*.json"))) > before
            process.join()
            time.sleep(0.05)  # workers that lost their parent end
            if not (out / "influence-harness.json").exists():
                continue
            found = contents(out)
            assert all(found[slot] == expected[slot] for slot in found)
            if len(found) == len(expected):
                break
            if kills >= max(1, KILLS // len(WAYS)):
                harness.run(METHODS, TASKS, SEEDS, preset="smoke", out=out)
        assert contents(out) == expected
        assert main(["status", str(out), "--repair"]) == 0
    print(f"{way}: {kills} kills, {storing} of them after something was stored, {folders} folders")
