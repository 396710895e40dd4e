"""Computes the scores or attributions of one seed's cells on the seed's view. Each method is timed separately."""

from __future__ import annotations

import importlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from harness.errors import Unsupported
from harness.interfaces.clock import PeakMemory, timed
from harness.interfaces.flags import Flags
from harness.interfaces.method import TruthControl
from harness.interfaces.task import Split
from harness.interfaces.uses import observed
from harness.interfaces.view import View
from harness.records.store import Record
from harness.running.base_models import Base, curves_of, model_seed
from harness.running.events import Begin, Event, Finished, failure, new_record
from harness.running.services import training
from harness.running.trimming import flagged, flags_of, tie_seed
from harness.seeds import derive
from harness.selection.plan import Cell

CONSTANT = "constant_model"
"""The health entry of scores of a model that gives every training sample the same class: it has learnt nothing."""


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


@dataclass
class Scored:
    """A cell between scoring and retraining."""

    cell: Cell
    base: Base
    record: Record
    arrays: dict[str, np.ndarray]
    keep: np.ndarray


def score_all(base: Base, device: str) -> Generator[Event, None, list[Scored]]:
    """Score one seed's cells, each method with its parameters once. A cell that fails ends with a failed record."""
    task, seed, view = base.cells[0].task, base.seed, base.view
    offered = training(task, base.split, model_seed(task, seed), derive("folds", task.name, seed))
    scored = []
    for cells in _by_method(base.cells):
        yield Begin("score", cells)
        own = view.fresh(derive("method", task.name, cells[0].method.name, seed), offered)
        scoring = Scoring(base.seconds, view.n, None if base.noisy is None else int(base.noisy.sum()))
        memory = PeakMemory(device)
        scores, flags = None, None
        try:
            scores, flags = _score(cells[0], own, scoring, base)
        except (Exception, SystemExit) as error:
            scoring.status, scoring.error = failure(error)
        scoring.peak_memory_mib = memory.mib()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        for cell in cells:
            record = replace(new_record(cell, device), **vars(scoring))
            if scores is None:
                yield Finished(cell, record, {})
            elif task.attributes:
                yield Finished(cell, _attributed(cell, base, record), _with_classes(scores, base.split))
            else:
                scored.append(_trimmed(cell, base, record, scores, flags))
    predicted = _known_predictions(view)
    if predicted is not None and len(set(predicted)) == 1 < len(set(view.labels)):
        for entry in scored:
            entry.record.health[CONSTANT] = True
    return scored


def _known_predictions(view: View) -> np.ndarray | None:
    """The model's predicted labels, (n,); None where no method has looked at its outputs yet."""
    outputs = view.computed_outputs()
    return None if outputs is None or outputs.probs is None else outputs.class_probs().argmax(1)


def _by_method(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """The cells in groups of equal method and method parameters. Such cells differ, for example, in the budget."""
    together: dict[str, list[Cell]] = {}
    for cell in cells:
        together.setdefault(repr((cell.method.name, cell.identity["method_params"])), []).append(cell)
    return [tuple(members) for members in together.values()]


def _trimmed(cell: Cell, base: Base, record: Record, scores: np.ndarray, flags: Flags | None) -> Scored:
    """Flag the budget's share of the samples with the highest scores."""
    mask = np.zeros(len(scores), dtype=bool)
    if cell.method.trims:
        mask = flagged(scores, cell.task.budget, tie_seed(cell.task.name, cell.method.name, base.seed))
    record.n_flagged = int(mask.sum())
    arrays = {"scores": scores, "flagged": mask}
    if flags is not None:
        arrays |= {"own_flagged": flags.flagged, "estimated_errors": np.array(flags.estimated_errors)}
    predicted = _known_predictions(base.view)
    if predicted is not None:  # a list of suspects suggests these labels
        arrays["predicted"] = predicted.astype(np.min_scalar_type(int(predicted.max())))
    if cell.method.trims and base.noisy is not None:
        labels = base.split.train.labels.cpu().numpy()
        arrays |= {"noisy": base.noisy, "labels": labels.astype(np.min_scalar_type(int(labels.max())))}
    return Scored(cell, base, record, arrays, ~mask)


def _attributed(cell: Cell, base: Base, record: Record) -> Record:
    """The record, with the base model's metrics and curves. No model is retrained."""
    record.metrics = dict(base.metrics[cell.task])
    record.curves = curves_of(cell.task, base.model, base.split)
    return record


def _with_classes(attribution: np.ndarray, split: Split) -> dict[str, np.ndarray]:
    """The arrays that class detection is computed from when results are read: attributions and classes."""
    if split.train.classes is None or split.test.classes is None:
        raise ValueError("an attribution task needs the classes of its training and test samples")
    classes = {"train_classes": split.train.classes, "test_classes": split.test.classes}
    limit = np.finfo(np.float32).max  # beyond float32, float64 is kept: the order is a result
    kept = attribution if np.nanmax(np.abs(attribution), initial=0) > limit else attribution.astype(np.float32)
    return {"attribution": kept} | classes


def _score(cell: Cell, view: View, scoring: Scoring, base: Base) -> tuple[np.ndarray, Flags | None]:
    """A method's scores (n,) with its own flags, or its attributions (n_test, n) on an attribution task, float64.

    Args:
        scoring: receives the parts that the method used and the seconds, even if the scores are invalid.

    Raises:
        Unsupported: a module that the method needs is missing, or the method does not support the view.
        ValueError: the method returned None, scores of another shape, or no finite score.
    """
    attributes = cell.task.attributes
    shape = (len(base.split.test), view.n) if attributes else (view.n,)
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
    scores = np.asarray(returned, dtype=np.float64)
    if attributes:  # on attribution tasks no gradient depends on a given label
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
