"""Asks one method for its scores or attributions on one seed's view, and measures what that takes."""

from __future__ import annotations

import importlib
import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from harness.errors import Unsupported
from harness.interfaces.clock import PeakMemory, timed
from harness.interfaces.flags import Flags
from harness.interfaces.method import TruthControl
from harness.interfaces.uses import observed
from harness.interfaces.view import View
from harness.running.base_models import Base, model_seed
from harness.running.events import failure
from harness.running.left_behind import Watch
from harness.running.services import training
from harness.running.trimming import flags_of
from harness.seeds import derive
from harness.selection.plan import Cell

LEFT_BEHIND = "left_behind"
"""The health entry that names what a method changed in its process."""


@dataclass
class Scoring:
    """Results of one scoring apart from the scores: fields of the record of every cell that shares the scoring."""

    train_seconds: float
    n_train: int
    n_noisy: int | None
    status: str = "ok"
    error: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    extract_seconds: float | None = None
    score_seconds: float | None = None
    total_seconds: float | None = None
    cost: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    uses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """What one method gave for the cells that share its scoring: scores or an error, and what it took."""

    slots: tuple[str, ...]
    scoring: Scoring
    scores: np.ndarray | None
    flags: Flags | None
    predicted: np.ndarray | None
    """The base model's predicted labels, if a method has looked at its outputs."""
    spoilt: bool = False
    """Whether the process that measured it should not be used any more."""


class Spoilt(Exception):
    """A method of a plug-in has left behind what cannot be put back, so this process should not be used any more."""


def measured(base: Base, cells: tuple[Cell, ...], device: str) -> Measured:
    """The scores of one method for the cells of a seed that share them."""
    task, seed, view = base.cells[0].task, base.seed, base.view
    offered = training(task, base.split, model_seed(task, seed), derive("folds", task.name, seed))
    own = view.fresh(derive("method", task.name, cells[0].method.name, seed), offered)
    scoring = _unscored(base)
    memory = PeakMemory(device)
    scores, flags = None, None
    try:
        scores, flags = _score(cells[0], own, scoring, base)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a method may raise anything
        scoring.status, scoring.error = failure(error)
    scoring.peak_memory_mib = memory.mib()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return Measured(tuple(cell.slot for cell in cells), scoring, scores, flags, _known_predictions(view))


def watched(base: Base, cells: tuple[Cell, ...], device: str) -> Measured:
    """`measured`, with what the method leaves behind in its health. Inputs that it changed in place are an error."""
    asked = base.view.fresh(0)  # else the method would be the first to see what follows, and no change would be seen
    if not base.cells[0].task.attributes:
        asked.outputs()
    modules: Any = None
    with suppress(Unsupported):
        modules = asked.model
    shown = {
        "the data": base.split,
        "the model": (base.model, modules),
        "the model's outputs": base.view.computed_outputs(),
    }
    with Watch(shown) as watch:
        try:
            made = measured(base, cells, device)
        except KeyboardInterrupt as error:  # the method's own: a process that is watched hears no other
            scoring = replace(_unscored(base), status="failed", error=failure(error)[1])
            made = Measured(tuple(cell.slot for cell in cells), scoring, None, None, None)
    if watch.restored or watch.remaining:
        made.scoring.health = {**made.scoring.health, LEFT_BEHIND: watch.restored + watch.remaining}
    if not watch.changed:
        return replace(made, spoilt=bool(watch.remaining))
    made.scoring.status = "failed"
    made.scoring.error = f"it changed its inputs in place: {' and '.join(watch.changed)}; let it work on a copy"
    return Measured(made.slots, made.scoring, None, None, None, spoilt=True)


def _unscored(base: Base) -> Scoring:
    return Scoring(base.seconds, base.view.n, None if base.noisy is None else int(base.noisy.sum()))


def _known_predictions(view: View) -> np.ndarray | None:
    """The model's predicted labels, (n,); None where no method has looked at its outputs yet."""
    outputs = view.computed_outputs()
    return None if outputs is None or outputs.probs is None else outputs.class_probs().argmax(1)


def _score(cell: Cell, view: View, scoring: Scoring, base: Base) -> tuple[np.ndarray, Flags | None]:
    """A method's scores (n,) with its own flags, or its attributions (n_test, n) on an attribution task, float64.

    Args:
        scoring: receives the parts that the method used and the seconds, even if the scores are invalid.

    Raises:
        Unsupported: a module that the method needs is missing, or the method does not support the view.
        ValueError: the method returned None, scores of another shape, or no finite score.
    """
    attributes = cell.task.attributes
    shape = (len(base.split.asked), view.n) if attributes else (view.n,)
    for module in cell.method.requires:
        try:
            importlib.import_module(module)  # before the clock starts
        except ImportError as error:
            raise Unsupported(
                f"{cell.method.name} needs the module {module}, which cannot be imported: {error}"
                f"{f'; {cell.method.needs}' if cell.method.needs else ''}"
            ) from error
    scoring.uses = list(cell.method.uses)
    before = view.computed_seconds
    with timed(view.device) as watch:
        returned = _asked(cell, view, base)
        flags = (
            None
            if attributes or np.shape(returned) != shape
            else flags_of(cell.method, view, np.asarray(returned, dtype=np.float64))
        )
    if returned is None:
        raise ValueError(f"{cell.method.name} returned None; scores of shape {shape} were expected")
    kind = getattr(np.asarray(returned), "dtype", np.dtype(object)).kind
    if kind not in "biufO":
        raise TypeError(f"{cell.method.name} returned {np.asarray(returned).dtype}; real numbers were expected")
    scores = np.asarray(returned, dtype=np.float64)
    if attributes and not base.split.train.labels.any():  # texts: no gradient depends on a given label
        scoring.uses = [word for word in observed(view.used) if word != "labels"]
    scoring.uses = scoring.uses or list(observed(view.used))
    scoring.extract_seconds = view.extract_seconds
    scoring.score_seconds = max(0.0, watch.seconds - (view.computed_seconds - before))
    scoring.total_seconds = scoring.extract_seconds + scoring.score_seconds
    own = max(0.0, scoring.score_seconds - view.retraining_seconds)
    scoring.cost = {**view.cost, "retraining": scoring.score_seconds - own, "scoring": own}
    scoring.health = _plain(view.health)
    if scores.shape != shape:
        raise ValueError(f"{cell.method.name} returned scores of shape {scores.shape}; {shape} was expected")
    bad = int((~np.isfinite(scores)).sum())
    if bad == scores.size:
        raise ValueError(f"none of the {bad} scores is finite")
    scoring.health["non_finite"] = bad
    if not attributes:
        scoring.health["largest_tie"] = largest_tie(scores[np.isfinite(scores)])
    return scores, flags


def _asked(cell: Cell, view: View, base: Base) -> Any:
    """What the method returns. A control is told the truth apart from the view, which knows none."""
    if cell.task.attributes:
        return cell.method.attribute(view)
    if not isinstance(cell.method, TruthControl):
        return cell.method.score(view)
    if base.noisy is None:
        raise Unsupported("it needs to be told which labels are wrong, and nobody knows here")
    return cell.method.score_truth(base.noisy.copy())


def largest_tie(scores: np.ndarray) -> int:
    """The size of the largest set of finite scores that are equal up to a relative 1e-9. Their order is noise."""
    ordered = np.sort(scores)
    starts = np.flatnonzero(np.diff(ordered) > 1e-9 * np.abs(ordered[1:])) + 1
    return int(np.diff([0, *starts, len(ordered)]).max())


def _plain(value: Any) -> Any:
    """Health entries in a form that JSON can store. Infinities and NaN become text."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items() if entry != {}}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
