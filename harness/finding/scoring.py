"""Scores and flags of one method on a model of a user's own data."""

from __future__ import annotations

import numpy as np

from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.interfaces.own_data import OwnData
from harness.interfaces.split import Split
from harness.interfaces.view import View
from harness.running.services import training
from harness.seeds import derive


def view_on(task: OwnData, split: Split, seed: int) -> View:
    """The view of a model that is trained on a split, with cross-validation on offer."""
    model = task.train(split, None, derive("model", task.name, seed))
    offered = training(task, split, derive("model", task.name, seed), fold_seed(task, seed))
    return task.view(model, split).fresh(derive("method", task.name, seed), offered)


def fold_seed(task: OwnData, seed: int) -> int:
    """The seed of the folds of cross-validation."""
    return derive("folds", task.name, seed)


def scored(method: Method, view: View) -> tuple[np.ndarray, Flags | None]:
    """A method's scores, (n,) float64, and its flags; None for a method without a rule of its own.

    Raises:
        Unsupported: the method cannot score the view.
    """
    own = view.fresh(view.seed)
    scores = np.asarray(method.score(own), dtype=np.float64)
    flags = method.flag(own, scores)
    return scores, flags if flags is None or isinstance(flags, Flags) else Flags(np.asarray(flags))


def highest(scores: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """The samples with the highest scores, (n,) bool; a score that is NaN is the lowest.

    Args:
        among: samples that can be chosen, (n,) bool.
    """
    chosen = np.zeros(len(scores), dtype=bool)
    places = np.flatnonzero(among)
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores)[places], kind="stable")
    chosen[places[order[:count]]] = True
    return chosen
