"""Memory does not grow with the cells that are done. `tox -e survive` runs it for ten minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SECONDS = float(os.environ.get("HARNESS_SOAK", "20"))
GROWTH = 1.05
"""Largest ratio of the memory in the last third of a run to that in the second third. The first third warms up."""


def held(process: int) -> float:
    """MiB that a process and all below it hold; what several of them share counts once."""
    total = 0.0
    for one in {process, *_below(process)}:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"] if "HARNESS_SOAK" in os.environ else ["--isolate"])
def test_memory_stays(tmp_path: Path, isolate: str) -> None:
    budgets = "|".join(f"{i / 100:g}" for i in range(1, 11))
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--methods",
        "random,self_confidence,outlier_l2",
    ]
    command += ["--seeds", str(max(900, int(4 * SECONDS)))]
    command += ["--tasks", f"digits[budget={budgets}]", "--preset", "smoke", "--out", str(tmp_path / "out"), isolate]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    series: list[tuple[int, float]] = []
    deadline = time.monotonic() + SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(SECONDS / 60)
            series.append((len(list((tmp_path / "out").rglob("*.json"))), held(process.pid)))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    started = [memory for done, memory in series if done > 30]
    third = len(started) // 3
    before, after = np.median(started[third : 2 * third]), np.median(started[2 * third :])
    print(f"{isolate}: {series[-1][0]} cells in {SECONDS:g} s; {before:.0f} MiB, then {after:.0f} MiB")
    assert series[-1][0] > 100
    assert after < GROWTH * before


def _below(parent: int) -> set[int]:
    """The processes below a process."""
    found, waiting = set(), [parent]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                below = [int(child) for child in task.read_text().split()]
            except OSError:
                continue
            found |= set(below)
            waiting += below
    return found
