"""How long a run will still take, by what its stages took so far and in earlier runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records.store import Record
    from harness.selection.plan import Cell

Stage = tuple[str, str, str]
"""What is expected to take a similar time: ``train``, ``score`` or ``retrain``; the task; the method (of scores)."""


@dataclass
class _Group:
    """Cells that one worker runs one after the other: train, scores, retrain."""

    left: dict[Stage, int] = field(default_factory=dict)
    """Units that are still to come: seeds to train, methods to score on a seed, cells to retrain."""
    cells: int = 0
    """Cells without a record."""
    running: Stage | None = None
    units: int = 1
    since: float = 0.0


class Estimate:
    """Listens to the stages of a run, and estimates the seconds that are left.

    A stage is expected to take the mean of what it took before on the same task, in this run or, until then, in
    earlier runs. A stage that never ran on the task is expected to take what it takes on other tasks, and a new method
    what the other methods take. A run of several workers is expected to keep them all busy.

    Args:
        groups: the cells of the run, by what runs together.
        earlier: finished records of the same results folder.
        workers: how many groups run at once.
        clock: seconds.
    """

    def __init__(
        self,
        groups: Iterable[Sequence[Cell]],
        earlier: Iterable[Record] = (),
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._workers = clock, workers
        self._seen: dict[Stage, list[float]] = {}
        self._earlier = _earlier(earlier)
        self._of_cell: dict[str, _Group] = {}
        self._left: Counter[Stage] = Counter()  # over all groups: a run may have thousands
        self._running: list[_Group] = []
        self._waiting = 0
        for cells in groups:
            group = _Group(cells=len(cells))
            group.left[_stage("train", cells[0])] = _seeds(cells)
            group.left[_stage("retrain", cells[0])] = len(cells)
            for stage, _ in {(_stage("score", cell), cell.seed) for cell in cells}:
                group.left[stage] = group.left.get(stage, 0) + 1
            self._left.update(group.left)
            self._waiting += 1
            self._of_cell |= dict.fromkeys((cell.slot for cell in cells), group)

    def begin(self, stage: str, cells: Sequence[Cell]) -> None:
        """A stage of these cells begins; the stage that ran before in their group has ended."""
        if stage == "truth":  # its seconds count as training's
            return
        group = self._of_cell[cells[0].slot]
        self._end(group)
        group.running, group.since = _stage(stage, cells[0]), self._clock()
        self._running.append(group)
        group.units = {"train": _seeds(cells), "score": 1, "retrain": len(cells)}[stage]

    def finished(self, cell: Cell) -> None:
        """A cell has its record; with the last one of its group, the group's last stage has ended."""
        group = self._of_cell[cell.slot]
        group.cells -= 1
        if group.cells == 0:
            self._end(group)
            self._waiting -= 1
            self._left.subtract(group.left)
            group.left.clear()

    def _end(self, group: _Group) -> None:
        stage, group.running = group.running, None
        if stage is not None:
            self._running.remove(group)
            self._seen.setdefault(stage, []).append((self._clock() - group.since) / group.units)
            before = group.left.get(stage, 0)
            group.left[stage] = max(0, before - group.units) if stage[0] == "score" else 0  # cells share retrainings
            self._left[stage] -= before - group.left[stage]

    def left(self) -> float | None:
        """Seconds until the run ends; None while nothing is known of any stage."""
        if not self._seen and not self._earlier:
            return None
        total = sum(count * self._expected(stage) for stage, count in self._left.items() if count)
        for group in self._running:
            assert group.running is not None
            total -= min(self._clock() - group.since, group.units * self._expected(group.running))
        return max(0.0, total) / max(1, len(self._running), min(self._workers, self._waiting))

    def _expected(self, stage: Stage) -> float:
        """Seconds per unit."""
        kind, task, method = stage
        alike: tuple[Callable[[Stage], bool], ...] = (
            lambda other: other == stage,
            lambda other: (other[0], other[2]) == (kind, method),
            lambda other: other[:2] == (kind, task),
            lambda other: other[0] == kind,
        )
        for same in alike:
            for known in (self._seen, self._earlier):
                values = [value for other, found in known.items() if same(other) for value in found]
                if values:
                    return mean(values)
        return 0.0


def _stage(kind: str, cell: Cell) -> Stage:
    return kind, cell.task.name, cell.method_spec if kind == "score" else ""


def _seeds(cells: Sequence[Cell]) -> int:
    return len({cell.seed for cell in cells})


def _earlier(records: Iterable[Record]) -> dict[Stage, list[float]]:
    """Seconds per unit of finished records. What methods share of a seed is counted to its training."""
    shared: dict[tuple[str, int, str, str], list[float]] = {}
    found: dict[Stage, list[float]] = {}
    for record in records:
        if record.status != "ok" or record.total_seconds is None:
            continue
        scoring, extraction = record.score_seconds or 0.0, record.extract_seconds or 0.0
        found.setdefault(("score", record.task, record.method_spec), []).append(scoring)
        found.setdefault(("retrain", record.task, ""), []).append(record.retrain_seconds or 0.0)
        shared.setdefault((record.task, record.seed, record.protocol, record.preset), []).append(
            (record.train_seconds or 0.0) + extraction
        )
    for (task, *_), seconds in shared.items():
        found.setdefault(("train", task, ""), []).append(max(seconds))
    return found
