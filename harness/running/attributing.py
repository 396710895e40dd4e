"""What follows attributions to test samples: their arrays, and models trained without what helps a test sample most."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import numpy as np

from harness.interfaces.clock import timed
from harness.interfaces.lds_task import LdsTask
from harness.interfaces.task import Split, Task
from harness.records.store import Record
from harness.running.base_models import Base, curves_of, model_seed
from harness.running.events import Begin, Event, Finished, failed
from harness.running.scored import Scored
from harness.running.trimming import flagged, tie_seed
from harness.selection.plan import Cell


def is_probed(task: Task) -> bool:
    """Whether models are trained without the samples that help single test samples most."""
    return isinstance(task, LdsTask) and task.retrain and task.probed > 0 and task.budget > 0


def attributed(cell: Cell, base: Base, record: Record, attribution: np.ndarray) -> Scored:
    """The record with the base model's metrics and curves, and the arrays that the metrics are computed from.

    Args:
        attribution: how much each training sample harms each test sample, (n_test, n).
    """
    record.metrics = dict(base.metrics[cell.task])
    record.curves = curves_of(cell.task, base.model, base.split)
    arrays = _with_classes(attribution, base.split)
    if base.truth is not None:
        record.metrics["truth_seconds"] = base.truth.seconds
        arrays |= {"subsets": base.truth.subsets, "losses": base.truth.losses}
    return Scored(cell, base, record, arrays, np.ones(len(base.split.train), dtype=bool))


def _with_classes(attribution: np.ndarray, split: Split) -> dict[str, np.ndarray]:
    """The arrays that class detection is computed from when results are read: attributions and classes."""
    asked = split.asked
    if split.train.classes is None or asked.classes is None:
        raise ValueError("an attribution task needs the classes of its training and test samples")
    classes = {"train_classes": split.train.classes, "test_classes": asked.classes}
    limit = np.finfo(np.float32).max  # beyond float32, float64 is kept: the order is a result
    kept = attribution if np.nanmax(np.abs(attribution), initial=0) > limit else attribution.astype(np.float32)
    return {"attribution": kept} | classes


def without_helpful(scored: list[Scored], device: str) -> Iterator[Event]:
    """For single test samples, train models without the training samples that help most by each method's attributions.

    The models of one seed are trained by one call. A kept set that several methods share is trained once.
    """
    for _, same in groupby(scored, key=lambda entry: id(entry.base)):
        entries = list(same)
        yield Begin("retrain", tuple(entry.cell for entry in entries))
        try:
            yield from _probed(entries, device)
        except (KeyboardInterrupt, GeneratorExit):  # the caller closes this generator
            raise
        except BaseException as error:
            for entry in entries:
                yield Finished(entry.cell, failed(entry.record, error), entry.arrays)


def _probed(entries: list[Scored], device: str) -> Iterator[Finished]:
    """The records of one seed's cells, with what is lost without the samples that help most."""
    task, base = entries[0].cell.task, entries[0].base
    asked = base.split.asked
    labels = asked.labels.cpu().numpy()
    before = task.outputs(base.model, asked)
    samples = np.flatnonzero(before.class_probs().argmax(1) == labels)[: task.probed]  # type: ignore[attr-defined]
    wanted = [_kept_sets(entry, samples) for entry in entries]
    distinct = {keep.tobytes(): keep for keeps in wanted for keep in keeps}
    after = {}
    with timed(device) as watch:
        models = _models(task, base, list(distinct.values()))
        for key, model in zip(distinct, models, strict=True):
            outputs = task.outputs(model, asked)
            after[key] = outputs.losses(), outputs.class_probs().argmax(1)
    losses = before.losses()
    for entry, keeps in zip(entries, wanted, strict=True):
        made = [(z, *after[keep.tobytes()]) for z, keep in zip(samples, keeps, strict=True)]
        if made:  # else the base model classifies no asked sample rightly
            entry.record.retrain_seconds = watch.seconds * len(made) / len(distinct)
            entry.record.metrics["flips"] = float(np.mean([guesses[z] != labels[z] for z, _, guesses in made]))
            entry.record.metrics["loss_rise"] = float(np.mean([loss[z] - losses[z] for z, loss, _ in made]))
        yield Finished(entry.cell, entry.record, entry.arrays)


def _models(task: Task, base: Base, keeps: list[np.ndarray]) -> Iterator[Any]:
    """Models from the base model's start, in the order of the kept sets."""
    if not keeps:
        return iter(())
    return chain.from_iterable(task.train_all([(base.split, keeps, model_seed(task, base.seed))]))


def _kept_sets(entry: Scored, samples: np.ndarray) -> list[np.ndarray]:
    """For each test sample, all training samples but the budget's share that helps it most, (n,) bool each."""
    task = entry.cell.task
    seed = tie_seed(task.name, entry.cell.method.name, entry.base.seed)
    return [~flagged(-entry.arrays["attribution"][z].astype(np.float64), task.budget, seed) for z in samples]
