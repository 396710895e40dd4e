"""Computes the scores or attributions of one seed's cells on the seed's view. Each method is timed separately."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.records.store import Record
from harness.running.attributing import attributed, is_probed
from harness.running.base_models import Base
from harness.running.events import Begin, Event, Finished, new_record
from harness.running.measuring import Measured, Spoilt, measured, watched
from harness.running.scored import Scored
from harness.running.trimming import flagged, tie_seed
from harness.selection.plan import Cell

CONSTANT = "constant_model"
"""The health entry of scores of a model that gives every training sample the same class: it has learnt nothing."""


def score_all(
    base: Base, device: str, known: Mapping[str, Measured], watch: bool, made: list[Measured]
) -> Generator[Event, None, list[Scored]]:
    """Score one seed's cells, each method with its parameters once. A cell that fails ends with a failed record.

    Args:
        known: by slot, what another process has measured already.
        watch: let methods of plug-ins come last, and watch what they leave behind.
        made: is given what is measured.

    Raises:
        Spoilt: only with ``watch``.
    """
    scored, predicted = [], None
    members = _by_method(base.cells)
    for cells in sorted(members, key=lambda some: _foreign(some[0])) if watch else members:
        mine = known.get(cells[0].slot)
        if mine is None:
            yield Begin("score", cells)
            mine = watched(base, cells, device) if watch and _foreign(cells[0]) else measured(base, cells, device)
        made.append(mine)
        if mine.spoilt and cells[0].slot not in known:
            raise Spoilt
        predicted = predicted if mine.predicted is None else mine.predicted
        for cell in cells:
            record = replace(new_record(cell, device), **vars(mine.scoring))
            if mine.scores is None:
                yield Finished(cell, record, {})
            elif cell.task.attributes:
                entry = attributed(cell, base, record, mine.scores)
                if is_probed(cell.task):
                    scored.append(entry)
                else:
                    yield Finished(cell, entry.record, entry.arrays)
            else:
                scored.append(_trimmed(cell, base, record, mine))
    if predicted is not None and len(set(predicted)) == 1 < len(set(base.view.labels)):
        for entry in scored:
            entry.record.health[CONSTANT] = True
    return scored


def _foreign(cell: Cell) -> bool:
    """Whether a cell's method is a plug-in's."""
    return not type(cell.method).__module__.startswith("methods.")


def _by_method(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """The cells in groups of equal method and method parameters. Such cells differ, for example, in the budget."""
    together: dict[str, list[Cell]] = {}
    for cell in cells:
        together.setdefault(repr((cell.method.name, cell.identity["method_params"])), []).append(cell)
    return [tuple(members) for members in together.values()]


def _trimmed(cell: Cell, base: Base, record: Record, made: Measured) -> Scored:
    """Flag the budget's share of the samples with the highest scores."""
    scores = made.scores
    assert scores is not None
    mask = np.zeros(len(scores), dtype=bool)
    if cell.method.trims:
        mask = flagged(scores, cell.task.budget, tie_seed(cell.task.name, cell.method.name, base.seed))
    record.n_flagged = int(mask.sum())
    arrays = {"scores": scores, "flagged": mask}
    if made.flags is not None:
        arrays |= {"own_flagged": made.flags.flagged, "estimated_errors": np.array(made.flags.estimated_errors)}
    if made.predicted is not None:  # a list of suspects suggests these labels
        arrays["predicted"] = made.predicted.astype(np.min_scalar_type(int(made.predicted.max())))
    if cell.method.trims and base.noisy is not None:
        labels = base.split.train.labels.cpu().numpy()
        arrays |= {"noisy": base.noisy, "labels": labels.astype(np.min_scalar_type(int(labels.max())))}
    return Scored(cell, base, record, arrays, ~mask)
