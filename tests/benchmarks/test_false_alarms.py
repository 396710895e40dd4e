"""How often the gate fails when nothing changed: simulations of comparisons of equals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.gate.compare import compare
from harness.gate.verdicts import Comparison
from harness.results.metrics import detection
from harness.running.trimming import flagged
from harness.seeds import derive
from tests.gate_rows import RULES, rows


@pytest.fixture(autouse=True)
def with_benchmarks_alone(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("benchmark_enable"):
        pytest.skip("simulations of half a minute; `tox -e bench` runs them")


def noise(k: int, rng: np.random.Generator) -> Comparison:
    """Nine lines of five seeds that differ by chance alone, more widely than the tolerance."""
    quality = {metric: rng.normal(0.8, 0.05, (2, 3, 5)) for metric in ("auroc", "detection_accuracy", "accuracy")}
    sides = [
        pd.concat([rows({m: v[side, i] for m, v in quality.items()}, method=f"m{i}") for i in range(3)])
        for side in range(2)
    ]
    return compare(sides[0], sides[1], RULES)


def test_equals_seldom_fail_when_scores_are_noise() -> None:
    rng = np.random.default_rng(0)
    failed = sum(noise(k, rng).exit_code == 1 for k in range(100))
    assert failed <= 5


@cache
def scored(task: str, seed: int, method: str, draw: int) -> dict[str, float]:
    """Detection metrics of a randomised method that draws again, on the same data and model."""
    made = harness.task(task, preset="smoke")
    split, truth = loaded(task, seed)
    view = viewed(task, seed).fresh(derive("draw", method, draw))
    scores = harness.method(method).score(view)
    noisy = truth != split.train.labels.numpy()
    return detection(scores, flagged(scores, made.budget, draw), noisy)


@cache
def loaded(task: str, seed: int) -> Any:
    return harness.task(task, preset="smoke").load(seed)


@cache
def viewed(task: str, seed: int) -> harness.View:
    made = harness.task(task, preset="smoke")
    split, _ = loaded(task, seed)
    return made.view(made.train(split, None, seed), split)


def test_equals_seldom_fail_when_real_detectors_draw_again() -> None:
    """100 A/A comparisons of an isolation forest of few trees and of random scores, at the default tolerance."""
    methods = ("outlier_iforest[n_estimators=5]", "random")

    def side(draw: int) -> pd.DataFrame:
        parts = []
        for task in ("moons", "blobs"):
            for method in methods if task == "blobs" else ["random"]:
                metrics = [scored(task, seed, method, draw) for seed in range(5)]
                columns = {metric: [values[metric] for values in metrics] for metric in ("auroc", "detection_accuracy")}
                parts.append(rows(columns, method=method, task=task))
        return pd.concat(parts)

    comparisons = [compare(side(2 * k), side(2 * k + 1), RULES) for k in range(100)]
    assert sum(comparison.exit_code == 1 for comparison in comparisons) <= 5
    aurocs = [line for comparison in comparisons for line in comparison.lines if line.metric == "auroc"]
    assert not any(line.verdict == "same" for line in aurocs)  # they do draw again
