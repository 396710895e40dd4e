"""``run`` as a whole: how much of its wall-clock is training and scoring, and how much is everything else.

Everything else is Python's start, imports, planning, storing and the report; importing torch, scikit-learn, cleanlab
and pandas alone is the floor of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.records.store import Store
from tests.benchmarks.conftest import ROWS, Row, seconds


@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_moons(benchmark: Any, protocol: str, tmp_path: Path) -> None:
    if benchmark.disabled:
        pytest.skip("measures whole runs; tests/test_cli.py has them")
    benchmark.group = f"run --methods all,-leave_one_out --tasks moons --seeds 5 --protocol {protocol}"
    folders = iter(tmp_path / str(i) for i in range(10))
    used: list[Path] = []

    def run() -> None:
        used.append(next(folders))
        asked = ["--methods", "all,-leave_one_out", "--tasks", "moons", "--seeds", "5", "--protocol", protocol]
        command = [sys.executable, "-m", "harness", "run", *asked, "--out", str(used[-1])]
        subprocess.run(command, check=True, capture_output=True)

    imports: list[float] = []

    def import_only() -> None:
        libraries = "import torch, sklearn.datasets, sklearn.ensemble, cleanlab.rank, pandas"
        imports.append(seconds(lambda: subprocess.run([sys.executable, "-c", libraries], check=True)))

    benchmark.pedantic(run, setup=import_only, rounds=3, warmup_rounds=1)
    whole = benchmark.stats.stats.min
    cells = list(Store(used[-1]).records())
    bases = {record.seed: record.train_seconds for record, _ in cells}
    extracted = {seed: max(r.extract_seconds for r, _ in cells if r.seed == seed) for seed in bases}
    retrained = {
        (record.seed, arrays["flagged"].tobytes()): record.retrain_seconds
        for record, arrays in cells
        if record.n_flagged
    }
    scored = sum(record.score_seconds for record, _ in cells)
    experiment = scored + sum(sum(part.values()) for part in (bases, extracted, retrained))
    benchmark.extra_info.update(experiment=experiment, imports=min(imports))
    ROWS.append(Row(f"run, moons {protocol}, all methods, 5 seeds", whole, floor=min(imports)))
    ROWS.append(Row(f"  of which training and scoring: {experiment / whole:.0%}", experiment))


@pytest.mark.parametrize("way", ["--isolate", "--isolate --jobs 2", "--no-isolate --jobs 2"])
def test_ways_of_running(benchmark: Any, way: str, tmp_path: Path) -> None:
    """What a process of its own costs on moons, and what two processes bring for independent groups."""
    if benchmark.disabled:
        pytest.skip("measures whole runs; tests/test_hostile.py has them")
    tasks = "moons" if way == "--isolate" else "digits"
    benchmark.group = f"run --methods all,-leave_one_out --tasks {tasks}"
    folders = iter(tmp_path / str(i) for i in range(20))
    plain: list[float] = []

    def run(*options: str) -> None:
        asked = ["--methods", "all,-leave_one_out", "--tasks", tasks, "--seeds", "6", *options]
        command = [sys.executable, "-m", "harness", "run", *asked, "--out", str(next(folders))]
        subprocess.run(command, check=True, capture_output=True)

    benchmark.pedantic(
        lambda: run(*way.split()), setup=lambda: plain.append(seconds(lambda: run("--no-isolate"))), rounds=4
    )
    ROWS.append(Row(f"run, {tasks}, 6 seeds, {way}", benchmark.stats.stats.min, usual=min(plain)))
