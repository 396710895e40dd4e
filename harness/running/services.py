"""The parts of a view that need training: losses of models retrained on kept sets, cross-validated probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.dynamics import Recorder, Recording
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Split, Task
from harness.interfaces.trained import Training
from harness.interfaces.view import View


def training(task: Task, split: Split, seed: int, fold_seed: int) -> Training:
    """What a task's views offer because its models can be trained.

    Args:
        seed: of the base model.
        fold_seed: of the folds of cross-validation.
    """
    return Training(
        losses=partial(retrained_losses, task, split, seed),
        views=partial(retrained_views, task, split, seed),
        out_of_sample=partial(cross_validated, task, split, seed, fold_seed),
        recording=partial(recorded, task, split, seed),
    )


def retrained_losses(task: Task, split: Split, seed: int, keeps: np.ndarray, reference: str) -> np.ndarray:
    """Losses of reference samples under models trained from the base model's start on kept sets, (m, n_reference)."""
    samples = split.train if reference == "train" else split.references[reference]
    outputs = task.training_outputs if reference == "train" else task.outputs
    models = _retrained(task, split, keeps, seed)
    return np.array([outputs(model, samples).losses() for model in models])


def retrained_views(task: Task, split: Split, seed: int, keeps: np.ndarray) -> Iterator[View]:
    """Views of models trained from the base model's start on kept sets."""
    for model in _retrained(task, split, keeps, seed):
        yield task.view(model, split)


def _retrained(task: Task, split: Split, keeps: np.ndarray, seed: int) -> Iterator[Any]:
    """Models on kept sets, in order.

    Raises:
        Unsupported: the task allows fewer retrainings.
    """
    if len(keeps) > task.most_retrainings:
        raise Unsupported(
            f"{task.name} allows {task.most_retrainings} retrainings for one method's scores; {len(keeps)} were "
            "asked for"
        )
    return chain.from_iterable(task.train_all([(split, list(keeps), seed)]))


def recorded(task: Task, split: Split, seed: int, recorder: Recorder | None = None) -> Recording:
    """A recording of the base model's training.

    Args:
        recorder: of a training that is over; None trains the base model again and records it.

    Raises:
        Unsupported: the task does not record its training.
    """
    if recorder is None:
        recorder = Recorder(len(split.train), split.n_classes)
        task.train_recorded(split, seed, recorder)

    def outputs(model: Any, name: str) -> Outputs:
        return task.seen(model, split, split.train if name == "train" else split.references[name])

    return recorder.recording(outputs, lambda model: task.module(model, split))


def cross_validated(task: Task, split: Split, seed: int, fold_seed: int, keep: np.ndarray | None = None) -> np.ndarray:
    """Each training sample's probabilities from a model trained on the other folds, (n, c).

    Args:
        keep: the samples that models may train on, (n,) bool; None for all samples.
    """
    given = task.out_of_sample(split)
    if given is not None:
        return given
    fold = task.assign_folds(split, fold_seed)
    numbers = np.unique(fold)
    keeps = [fold != k if keep is None else (fold != k) & keep for k in numbers]
    if not all(kept.any() for kept in keeps):
        raise Unsupported("cross-validation needs more samples: some folds leave none to train on")
    models = chain.from_iterable(task.train_all([(split, keeps, seed)]))
    probs = np.empty((len(fold), split.n_classes))
    for k, model in zip(numbers, models, strict=True):
        probs[fold == k] = task.training_outputs(model, split.train).class_probs()[fold == k]
    return probs
