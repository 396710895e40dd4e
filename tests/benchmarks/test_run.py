"""``run`` as a whole: how much of its wall-clock is training and scoring, and how much is everything else.

Everything else is Python's start, imports, planning, storing and the report; ``import torch, sklearn, cleanlab, pandas``
alone is the floor of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness
from tests.benchmarks.conftest import ROWS, seconds


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
    whole = benchmark.stats.stats.median
    cells = harness.load_results(used[-1]).drop_duplicates("key")
    seeds = cells.groupby(["task", "seed"])
    experiment = float(seeds["train_seconds"].first().sum() + seeds["extract_seconds"].max().sum())
    experiment += float(cells["score_seconds"].sum())
    experiment += float(cells.drop_duplicates(["seed", "n_flagged", "retrain_seconds"])["retrain_seconds"].sum())
    benchmark.extra_info.update(experiment=experiment, imports=min(imports))
    ROWS.append((f"run, moons {protocol}, all methods, 5 seeds", None, whole, min(imports), None))
    ROWS.append((f"  of which training and scoring: {experiment / whole:.0%}", None, experiment, None, None))
