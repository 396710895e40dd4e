"""The parts of a view that need training: losses of models retrained on kept sets, cross-validated probabilities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.task import Split, Task
from harness.interfaces.view import Retrain

FOLDS = 5


def retrainer(task: Task, split: Split, seed: int) -> Retrain:
    """A view's ``retrain``: mean reference losses of models trained from the base model's start on kept sets."""

    def losses(keeps: np.ndarray, reference: str) -> np.ndarray:
        if len(keeps) > task.most_retrainings:
            raise Unsupported(
                f"{task.name} allows {task.most_retrainings} retrainings for one method's scores; {len(keeps)} were "
                "asked for"
            )
        samples = split.train if reference == "train" else split.references[reference]
        outputs = task.training_outputs if reference == "train" else task.outputs
        models = chain.from_iterable(task.train_all([(split, list(keeps), seed)]))
        return np.array([outputs(model, samples).losses().mean() for model in models])

    return losses


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
