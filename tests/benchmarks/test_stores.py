"""Many stored cells: ``report``, ``status`` and ``compare`` beside reading the JSON alone, and how soon a run resumes.

And what a cell costs whose method does nothing.
"""

from __future__ import annotations

import json
import time
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
from harness.running.events import Event
from harness.running.execute import execute, to_run
from harness.running.options import Options
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


def test_a_resumed_run_begins(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of which one of many cells is missing, by the command line, until the missing cell is stored."""
    settings, seeds = (100, 20) if not benchmark.disabled else (2, 2)
    out = many_cells(tmp_path, settings, seeds)
    budgets = "|".join(f"{(i + 1) / 1000:g}" for i in range(settings))
    record = next(out.rglob("records/moons/random/*.json"))
    whole, began = record.read_bytes(), []

    def without_one() -> None:
        record.unlink(missing_ok=True)

    def resumed() -> None:
        started = time.perf_counter()
        request = Request(METHODS, f"moons[budget={budgets}]", tuple(range(seeds)), "fair", "smoke")

        def listen(event: Event) -> None:
            began.append(time.perf_counter() - started)

        store = Store(out)
        execute(to_run(request.plan(), store, None), store, Options(), listen)

    benchmark.group = f"{5 * settings * seeds} stored cells"
    benchmark.pedantic(resumed, setup=without_one, rounds=3 if not benchmark.disabled else 1)
    assert record.exists()
    assert json.loads(record.read_text())["slot"] == json.loads(whole)["slot"]
    if not benchmark.disabled:
        ROWS.append(Row(f"a resumed run of {5 * settings * seeds} cells begins", min(began)))


@pytest.mark.parametrize("isolate", [False, True])
def test_cells_that_do_nothing(benchmark: Any, isolate: bool, tmp_path: Path) -> None:
    """Planning, scheduling and storing of cells of one base model, by the seconds of a run with ten times as many."""
    few, many = (100, 1000) if not benchmark.disabled else (2, 4)
    made = iter(range(100))

    def ran(cells: int) -> float:
        budgets = "|".join(f"{(i + 1) / 2000:g}" for i in range(cells))
        folder = tmp_path / f"out{next(made)}"
        task = f"moons[budget={budgets},retrain=no]"
        return seconds(lambda: harness.run("random", task, 1, preset="smoke", out=folder, isolate=isolate))

    benchmark.group = "cells that do nothing"
    less = min(ran(few) for _ in range(2))
    benchmark.pedantic(ran, args=(many,), rounds=2 if not benchmark.disabled else 1)
    if not benchmark.disabled:
        each = (benchmark.stats.stats.min - less) / (many - few)
        ROWS.append(Row(f"a cell that does nothing{', isolated' if isolate else ''}", each))
