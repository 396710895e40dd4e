"""``report``, ``status`` and ``compare`` of many stored cells, beside reading the records' JSON alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.interfaces.params import values_of
from harness.records.requests import Request, remember
from harness.records.store import Store
from tests.benchmarks.conftest import ROWS, Row, seconds

METHODS = "self_confidence,normalized_margin,outlier_l1,outlier_l2,random"


def many_cells(tmp_path: Path, settings: int, seeds: int, n: int = 1000) -> Path:
    """A results folder with 5 · ``settings`` · ``seeds`` cells: one real cell per method, with other scores."""
    harness.run(METHODS, "moons", 1, preset="smoke", out=tmp_path / "real")
    real = {record.method: record for record, _ in Store(tmp_path / "real").records()}
    budgets = "|".join(f"{(i + 1) / 1000:g}" for i in range(settings))
    tasks, out = f"moons[budget={budgets}]", tmp_path / "many"
    request = Request(METHODS, tasks, tuple(range(seeds)), "fair", "smoke", (), "python -m harness run")
    store = Store(out, create=True)
    remember(store, request)
    for i, cell in enumerate(request.plan()):
        rng = np.random.default_rng(i)
        noisy = rng.random(n) < 0.2
        scores = rng.normal(size=n) + noisy
        arrays = {"scores": scores, "flagged": scores > 2, "noisy": noisy, "labels": rng.integers(0, 10, n)}
        record = replace(
            real[cell.method.name],
            key=cell.key,
            slot=cell.slot,
            versions=cell.versions,
            task_params=values_of(cell.task),
            task_spec=cell.task_spec,
            seed=cell.seed,
            n_train=n,
            n_noisy=int(noisy.sum()),
            n_flagged=int((scores > 2).sum()),
        )
        store.write(cell, record, arrays)
    return out


@pytest.mark.parametrize("command", ["report", "status", "compare"])
def test_many_cells(benchmark: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, seeds = (100, 20) if not benchmark.disabled else (2, 2)
    out = many_cells(tmp_path, settings, seeds)
    argv = [command, str(out), *([str(out)] if command == "compare" else [])]
    floors: list[float] = []

    def read_json() -> None:
        files = list(out.rglob("records/*/*/*.json"))
        floors.append(seconds(lambda: [json.loads(file.read_text()) for file in files]))

    benchmark.group = f"{5 * settings * seeds} stored cells"
    first = seconds(lambda: main(argv))  # computes the metrics; later calls read them
    benchmark.pedantic(lambda: main(argv), setup=read_json, rounds=3 if not benchmark.disabled else 1)
    printed = capsys.readouterr().out
    assert {"report": f"{seeds} seeds", "status": f"{5 * settings * seeds} ok", "compare": "same"}[command] in printed
    if not benchmark.disabled:
        title = f"{command} of {5 * settings * seeds} cells, n=1000"
        ROWS.append(Row(f"{title}, first time", first, floor=min(floors)))
        ROWS.append(Row(title, benchmark.stats.stats.min, floor=min(floors)))
