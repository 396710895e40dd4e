"""The parts of a view that need training: losses of models retrained on kept sets, cross-validated probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.dynamics import Recorder, Recording
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Split, Task
from harness.interfaces.trained import Retrain, Retrained

FOLDS = 5


def services(task: Task, split: Split, seed: int, fold_seed: int) -> dict[str, Any]:
    """All that a view offers beyond one model's outputs, by the names of `View.fresh`.

    Args:
        seed: of the base model.
        fold_seed: of the folds of cross-validation.
    """
    return {
        "retrain": retrainer(task, split, seed),
        "retrained": predictor(task, split, seed),
        "out_of_sample": cross_validated(task, split, seed, fold_seed),
        "recording": partial(recorded, task, split, seed),
    }


def retrainer(task: Task, split: Split, seed: int) -> Retrain:
    """A view's ``retrain``: mean reference losses of models trained from the base model's start on kept sets."""

    def losses(keeps: np.ndarray, reference: str) -> np.ndarray:
        samples = split.train if reference == "train" else split.references[reference]
        outputs = task.training_outputs if reference == "train" else task.outputs
        models = _retrained(task, split, keeps, seed)
        return np.array([outputs(model, samples).losses().mean() for model in models])

    return losses


def predictor(task: Task, split: Split, seed: int) -> Retrained:
    """A view's ``retrained``: probabilities of the training samples by models trained on kept sets."""

    def probs(keeps: np.ndarray) -> Iterator[np.ndarray]:
        for model in _retrained(task, split, keeps, seed):
            yield task.training_outputs(model, split.train).class_probs()

    return probs


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
        return (
            task.training_outputs(model, split.train)
            if name == "train"
            else task.outputs(model, split.references[name])
        )

    return recorder.recording(outputs)


def cross_validated(task: Task, split: Split, seed: int, fold_seed: int) -> Callable[[], np.ndarray]:
    """A view's ``out_of_sample_probs``: each sample's probabilities from a model trained on the other folds."""

    def held_out() -> np.ndarray:
        n = len(split.train)
        fold = np.random.default_rng(fold_seed).permutation(n) % FOLDS
        models = chain.from_iterable(task.train_all([(split, [fold != k for k in range(FOLDS)], seed)]))
        probs = np.empty((n, split.n_classes))
        for k, model in enumerate(models):
            probs[fold == k] = task.training_outputs(model, split.train).class_probs()[fold == k]
        return probs

    return held_out
