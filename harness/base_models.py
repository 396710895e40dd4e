"""Data and base models of a group's seeds, loaded one by one and trained together."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from harness.clock import timed
from harness.events import Event, all_failed
from harness.plan import Cell, Group
from harness.seeds import derive
from harness.task_base import Split, Task
from harness.view import View


@dataclass(frozen=True)
class Base:
    """One seed's data and base model, which its cells share."""

    seed: int
    cells: tuple[Cell, ...]
    split: Split
    noisy: np.ndarray | None
    model: Any
    seconds: float
    metrics: dict[str, float]
    view: View


def base_models(group: Group, device: str) -> Generator[Event, None, list[Base]]:
    """Load every seed's data and train the base models; a seed that fails has its cells' records at once."""
    task = group.task
    loaded: list[tuple[int, Split, np.ndarray | None]] = []  # seed, data, which labels are wrong
    for seed, cells in group.by_seed.items():
        try:
            split, truth = _loaded(task, seed)
            split = split.to(device)
            loaded.append(
                (seed, split, None if truth is None else np.asarray(truth) != split.train.labels.cpu().numpy())
            )
        except (Exception, SystemExit) as error:
            yield from all_failed(cells, error, device)
    if not loaded:
        return []
    try:
        with timed(device) as watch:
            if len(loaded) == 1:
                seed, split, _ = loaded[0]
                models = [task.train(split, None, model_seed(task, seed))]
            else:
                wanted = [
                    (split, [np.ones(len(split.train), bool)], model_seed(task, seed)) for seed, split, _ in loaded
                ]
                models = list(chain.from_iterable(task.train_all(wanted)))
    except (Exception, SystemExit) as error:
        for seed, _, _ in loaded:
            yield from all_failed(group.by_seed[seed], error, device)
        return []
    bases = []
    for (seed, split, noisy), model in zip(loaded, models, strict=True):
        cells = group.by_seed[seed]
        try:
            metrics = task.evaluate(model, split)
            if "accuracy" not in metrics:
                raise ValueError(
                    f"{task.name}.evaluate must give 'accuracy'; it gave {', '.join(metrics) or 'nothing'}"
                )
            view = task.view(model, split)
        except (Exception, SystemExit) as error:
            yield from all_failed(cells, error, device)
            continue
        bases.append(Base(seed, cells, split, noisy, model, watch.seconds / len(models), metrics, view))
    return bases


def _loaded(task: Task, seed: int) -> tuple[Split, np.ndarray | None]:
    loaded: Any = task.load(derive("data", task.name, seed))
    if not isinstance(loaded, tuple) or len(loaded) != 2 or not isinstance(loaded[0], Split):
        raise TypeError(f"{task.name}.load must return a Split and the true labels, or None where none are known")
    return loaded


def model_seed(task: Task, seed: int) -> int:
    return derive("model", task.name, seed)
