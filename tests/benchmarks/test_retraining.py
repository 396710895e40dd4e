"""Many small models as one program, against one torch.nn module after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import harness
from tests.benchmarks import usual
from tests.benchmarks.conftest import Versus

CASES = {
    "65 moons models, fair (width 16)": ("moons", "fair", 65),
    "65 moons models, paper (width 2)": ("moons", "paper", 65),
    "leave-one-out of 250, moons fair": ("moons", "fair", 251),
    "leave-one-out of 250, moons paper": ("moons", "paper", 251),
    "65 blobs models": ("blobs", "fair", 65),
    "20 digits models": ("digits", "fair", 20),
}


@pytest.mark.parametrize("name", CASES)
def test_against_one_after_another(versus: Versus, name: str) -> None:
    task_name, protocol, models = CASES[name]
    models = models if versus.full else 3
    task: Any = harness.task(task_name, protocol, steps=100 if versus.full else 5)
    split, _ = task.load(0)
    n, d = split.train.inputs.shape
    if "leave" in name:
        keeps = [np.arange(n) != i for i in range(models)]
    else:
        rng = np.random.default_rng(0)
        keeps = [rng.random(n) < 0.9 for _ in range(models)]
    recipe = task.recipe(split.n_classes)
    widths = [d, *recipe.hidden, recipe.outputs]

    def one_after_another() -> None:
        for keep in keeps:
            mask = torch.from_numpy(keep)
            usual.train_one(
                split.train.inputs[mask],
                split.train.labels[mask],
                widths,
                recipe.head_bias,
                recipe.steps,
                recipe.lr,
                recipe.weight_decay,
            )

    def together() -> list[Any]:
        return [model for batch in task.train_all([(split, keeps, 1)]) for model in batch]

    trained = versus(f"{name}, {recipe.steps} steps", together, one_after_another, rounds=3)
    assert len(trained) == models
