"""Running one group: its base models, its cells' scores, then one retraining per distinct kept set."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import torch

from harness.interfaces.clock import timed
from harness.interfaces.task import Task
from harness.running.attributing import without_helpful
from harness.running.base_models import base_models, curves_of, evaluated, model_seed
from harness.running.events import Begin, Event, Finished, failed
from harness.running.measuring import Measured, Spoilt
from harness.running.repair import Retraining, retraining
from harness.running.scored import Scored
from harness.running.scoring import score_all
from harness.selection.plan import Group


def run_group(group: Group, device: str = "cpu") -> Iterator[Event]:
    """Score every cell of a group, retrain without the flagged samples, and yield events as they happen.

    A cell that fails becomes a record with its error. Only an interruption leaves this generator as an exception.
    """
    scored = yield from _scored(group, device, {}, [], watch=False)
    yield from _retrained(scored, group.task, device)


def run_watched(group: Group, device: str, known: Mapping[str, Measured]) -> Iterator[Event | Measured]:
    """As `run_group`, while it sees what methods of plug-ins leave behind.

    If one leaves something that cannot be put back, the generator ends with all that was measured. Another process can
    go on with it.

    Args:
        known: by slot, what another process has measured already.
    """
    made: list[Measured] = []
    try:
        scored = yield from _scored(group, device, known, made, watch=True)
    except Spoilt:
        yield from made
        return
    yield from _retrained(scored, group.task, device)


def _scored(
    group: Group, device: str, known: Mapping[str, Measured], made: list[Measured], watch: bool
) -> Generator[Event, None, list[Scored]]:
    _warm_up(device)
    yield Begin("train", group.cells)
    scored: list[Scored] = []
    for base in (yield from base_models(group, device)):
        scored += yield from score_all(base, device, known, watch, made)
    return scored


def _retrained(scored: list[Scored], task: Task, device: str) -> Iterator[Event]:
    """Retrain once per seed and distinct kept set, all seeds in one call."""
    if task.attributes:
        yield from without_helpful(scored, device)
        return
    shared: dict[tuple[int, str, bytes], list[Scored]] = {}
    for entry in scored:
        if not entry.cell.task.retrain:
            entry.record.metrics = _before(entry)
            yield Finished(entry.cell, entry.record, entry.arrays)
            continue
        kept = np.packbits(entry.keep).tobytes()
        shared.setdefault((entry.base.seed, entry.cell.task.repair, kept), []).append(entry)
    pending: list[Retraining] = []
    for entries in shared.values():
        untested = not any(entries[0].base.metrics.values())
        if entries[0].keep.all() or untested:  # nothing is flagged, or nothing would be measured
            yield from _finished(entries, entries[0].base.model, 0.0)
            continue
        try:
            pending.append(retraining(entries))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield from _failed(entries, error)
    if not pending:
        return
    pending.sort(key=lambda made: (made.seed, made.repair_seconds > 0))  # one data set's kept sets together
    yield Begin("retrain", tuple(entry.cell for made in pending for entry in made.entries))
    yield from _trained(pending, task, device)


def _trained(pending: list[Retraining], task: Task, device: str) -> Iterator[Finished]:
    """Retrain for all kept sets in one call. If the call fails, retrain seed by seed, so that other seeds succeed."""
    by_split = [list(members) for _, members in groupby(pending, key=lambda made: id(made.split))]
    wanted = [
        (members[0].split, [made.keep for made in members], model_seed(task, members[0].seed)) for members in by_split
    ]
    left = list(pending)
    try:
        batches = task.train_all(wanted)
        while left:
            with timed(device) as watch:
                models = next(batches)
            for model in models:
                made = left[0]
                for entry in made.entries:
                    entry.record.cost = {**entry.record.cost, "repair": made.repair_seconds}  # cells share a scoring's
                finished = list(_finished(made.entries, model, watch.seconds / len(models)))
                left.pop(0)
                yield from finished
    except (KeyboardInterrupt, GeneratorExit):  # the caller closes this generator
        raise
    except BaseException as error:
        if len({made.seed for made in left}) > 1:
            for _, members in groupby(left, key=lambda made: made.seed):
                yield from _trained(list(members), task, device)
            return
        for made in left:
            yield from _failed(made.entries, error)


def _failed(entries: list[Scored], error: BaseException) -> Iterator[Finished]:
    for entry in entries:
        yield Finished(entry.cell, failed(entry.record, error), entry.arrays)


def _finished(entries: list[Scored], model: Any, seconds: float) -> Iterator[Finished]:
    """The records of the cells that share a kept set, with the model's metrics added."""
    base = entries[0].base
    measured = dict(base.metrics) if model is base.model else {}
    for entry in entries:
        task = entry.cell.task
        if task not in measured:
            measured[task] = evaluated(task, model, base.split)
        before, after = base.metrics[task], measured[task]
        entry.record.retrain_seconds = seconds
        entry.record.metrics = _before(entry) | after
        entry.record.curves = curves_of(entry.cell.task, model, base.split)
        entry.record.metrics |= {f"{name}_gain": after[name] - before[name] for name in after.keys() & before.keys()}
        yield Finished(entry.cell, entry.record, entry.arrays)


def _before(entry: Scored) -> dict[str, float]:
    """The base model's metrics, each name with ``_base`` added."""
    return {f"{name}_base": value for name, value in entry.base.metrics[entry.cell.task].items()}


def _warm_up(device: str) -> None:
    """Run one small factorisation and one backward pass, so that no timing includes the start of the libraries."""
    square = torch.eye(64, device=device, dtype=torch.float64)
    torch.linalg.cholesky(square @ square)
    weight = torch.ones(1, device=device, requires_grad=True)
    torch.autograd.backward((weight**2).sum())
