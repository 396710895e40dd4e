"""Data and base models of a group's seeds, loaded one by one and trained together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.clock import timed
from harness.interfaces.dynamics import Recorder
from harness.interfaces.lds_task import LdsTask
from harness.interfaces.task import Split, Task
from harness.interfaces.uses import RECORDED
from harness.interfaces.view import View
from harness.running.events import Begin, Event, all_failed
from harness.running.services import recorded
from harness.running.subset_losses import SubsetLosses, subset_losses
from harness.seeds import derive
from harness.selection.plan import Cell, Group


@dataclass(frozen=True)
class Base:
    """One seed's data, base model and view, which its cells share."""

    seed: int
    cells: tuple[Cell, ...]
    split: Split
    noisy: np.ndarray | None
    model: Any
    seconds: float
    metrics: dict[Task, dict[str, float]]  # by task of the cells: tasks may report differently
    view: View
    truth: SubsetLosses | None
    """What attributions are checked against."""


def base_models(group: Group, device: str) -> Generator[Event, None, list[Base]]:
    """Load every seed's data and train the base models. If a seed fails, all cells of the seed end as failed."""
    task = group.task
    loaded: list[tuple[int, Split, np.ndarray | None]] = []  # seed, data, which labels are wrong
    for seed, cells in group.by_seed.items():
        try:
            split, truth = _loaded(task, seed)
            split = split.to(device)
            loaded.append(
                (seed, split, None if truth is None else np.asarray(truth) != split.train.labels.cpu().numpy())
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield from all_failed(cells, error, device)
    bases = []
    wanted = [(split, model_seed(task, seed)) for seed, split, _ in loaded]
    trained = _recorded(task, wanted, device) if _is_recorded(group) else _trained(task, wanted, device)
    for (seed, split, noisy), (model, seconds, recorder) in zip(loaded, trained, strict=True):
        for cells in _by_outputs(group.by_seed[seed]):
            own = cells[0].task
            if isinstance(own, LdsTask) and not isinstance(model, BaseException):
                yield Begin("truth", cells)
            try:
                if isinstance(model, BaseException):
                    raise model
                metrics = {made: evaluated(made, model, split) for made in dict.fromkeys(cell.task for cell in cells)}
                view = own.view(model, split)
                if recorder is not None:
                    made = recorded(own, split, model_seed(own, seed), recorder)
                    view.provide("recording", made, recorder.seconds)
                checked = subset_losses(own, split, seed) if isinstance(own, LdsTask) else None
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                yield from all_failed(cells, error, device)
                continue
            bases.append(Base(seed, cells, split, noisy, model, seconds, metrics, view, checked))
    return bases


def _by_outputs(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Cells of one base model, by the values of the parameters that change its outputs."""
    parts: dict[str, list[Cell]] = {}
    for cell in cells:
        values = [getattr(cell.task, name) for name in sorted(cell.task.of_outputs)]
        parts.setdefault(repr(values), []).append(cell)
    return [tuple(part) for part in parts.values()]


def _is_recorded(group: Group) -> bool:
    """Whether a method of the group says that it uses what is recorded while the base model trains."""
    return any(RECORDED & set(cell.method.uses) for cell in group.cells)


def _recorded(task: Task, wanted: list[tuple[Split, int]], device: str) -> list[tuple[Any, float, Recorder | None]]:
    """As `_trained`, seed by seed, with the recorder; None where the task does not record its training."""
    trained: list[tuple[Any, float, Recorder | None]] = []
    for split, seed in wanted:
        recorder = Recorder(len(split.train), split.n_classes)
        try:
            with timed(device) as watch:
                model = task.train_recorded(split, seed, recorder)
            trained.append((model, watch.seconds - recorder.seconds, recorder))
        except Unsupported:
            trained += _trained(task, [(split, seed)], device)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            trained.append((error, 0.0, None))
    return trained


def _trained(task: Task, wanted: list[tuple[Split, int]], device: str) -> list[tuple[Any, float, Recorder | None]]:
    """For each seed: the base model, or the error that training raised, and the seed's share of the seconds."""
    try:
        with timed(device) as watch:
            if len(wanted) == 1:
                models = [task.train(wanted[0][0], None, wanted[0][1])]
            else:
                models = list(chain.from_iterable(task.train_all([(split, [None], seed) for split, seed in wanted])))
        return [(model, watch.seconds / len(models), None) for model in models]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if len(wanted) == 1:
            return [(error, 0.0, None)]
        return [_trained(task, [one], device)[0] for one in wanted]  # find the seed that fails


def evaluated(task: Task, model: Any, split: Split) -> dict[str, float]:
    """A model's test metrics."""
    metrics = {name: float(value) for name, value in task.evaluate(model, split).items()}
    if metrics and "accuracy" not in metrics:
        raise ValueError(f"{task.name}.evaluate must give 'accuracy'; it gave {', '.join(metrics)}")
    return metrics


def curves_of(task: Task, model: Any, split: Split) -> dict[str, list[float]]:
    """A model's metrics by step of its training."""
    return {name: [float(value) for value in values] for name, values in task.curves(model, split).items()}


def _loaded(task: Task, seed: int) -> tuple[Split, np.ndarray | None]:
    loaded: Any = task.load(derive("data", task.name, seed))
    if not isinstance(loaded, tuple) or len(loaded) != 2 or not isinstance(loaded[0], Split):
        raise TypeError(f"{task.name}.load must return a Split and the true labels, or None where none are known")
    return loaded


def model_seed(task: Task, seed: int) -> int:
    return derive("model", task.name, seed)
