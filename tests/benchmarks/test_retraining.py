"""Retraining many small models as one batched program, against one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import harness

MODELS = 65
STEPS = 100


@pytest.mark.parametrize("way", ["one after another", "batched"])
def test_retraining(benchmark: Any, way: str) -> None:
    benchmark.group = f"{MODELS} moons models, {STEPS} steps"
    task = harness.task("moons", steps=STEPS)
    split, _ = task.load(0)
    rng = np.random.default_rng(0)
    keeps = [rng.random(len(split.train)) < 0.9 for _ in range(MODELS)]

    def run() -> list[Any]:
        if way == "batched":
            return [model for batch in task.train_many(split, keeps, 1) for model in batch]
        return [task.train(split, keep, 1) for keep in keeps]

    models = benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    assert len(models) == MODELS
