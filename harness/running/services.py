"""What a view offers that needs training: leave-some-out losses and cross-validated probabilities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.task import Split, Task
from harness.interfaces.view import Retrain, View

FOLDS = 5


def retrainer(task: Task, split: Split, seed: int) -> Retrain:
    """A view's ``retrain``: mean reference losses of models trained from the base model's start on kept sets."""

    def losses(keeps: np.ndarray, reference: str) -> np.ndarray:
        if len(keeps) > task.most_retrainings:
            raise Unsupported(
                f"{task.name} allows {task.most_retrainings} retrainings for one method's scores; {len(keeps)} were "
                "asked for"
            )
        models = chain.from_iterable(task.train_many(split, list(keeps), seed))
        return np.array([task.view(model, split).outputs(reference).losses().mean() for model in models])

    return losses


def cross_validated(task: Task, split: Split, seed: int, fold_seed: int) -> Callable[[], np.ndarray]:
    """A view's ``out_of_sample_probs``: each sample's probabilities from a model trained on the other folds."""

    def probs() -> np.ndarray:
        n = len(split.train)
        fold = np.random.default_rng(fold_seed).permutation(n) % FOLDS
        models = chain.from_iterable(task.train_many(split, [fold != k for k in range(FOLDS)], seed))
        out = np.empty((n, split.n_classes))
        for k, model in enumerate(models):
            view: View = task.view(model, split)
            out[fold == k] = view.probs[fold == k]
        return out

    return probs
