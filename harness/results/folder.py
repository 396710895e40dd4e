"""A results folder, read once: the records, the tidy table of the records, and which records are stale."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.records.requests import remembered
from harness.records.store import Record, Store
from harness.results.chosen import selected
from harness.results.known_metrics import KnownMetrics
from harness.results.staleness import stale_keys, unknown_names
from harness.results.table import tidy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Results:
    """All readable results of a folder.

    Args:
        path: the path of the folder.
        records: sorted by file.
        commands: the commands that made the records, oldest first.
        problems: one sentence for each damaged file, which is left out. Files of scores are read on the first use of
            `frame`, which may add problems.
        arrays, scores_file: a record's arrays and their file; see `harness.records.store`.
    """

    path: str
    records: Sequence[Record]
    commands: Sequence[str]
    problems: list[str]
    arrays: Callable[[Record], dict[str, np.ndarray] | None] = field(repr=False)
    scores_file: Callable[[Record], Path] = field(repr=False)

    def of_methods(self, selection: str) -> Results:
        """The results of some methods.

        Raises:
            RequestError: the selection leaves nothing.
        """
        known = {record.method_spec for record in self.records}
        specs = {spec for spec in known if selected(spec, selection)}
        if not specs:
            raise RequestError(
                f"--methods {selection} leaves nothing of {self.path}; it has {', '.join(sorted(known))}"
            )
        return replace(self, records=tuple(record for record in self.records if record.method_spec in specs))

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read a folder that ``run --out`` wrote.

        Raises:
            RequestError: the folder is missing or no results folder.
        """
        store = Store(path)
        records = tuple(store.headers())
        commands = [request.command for request in remembered(store) if request.command]
        return cls(str(path), records, commands, store.problems, store.arrays, store.scores_file)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy table; see `load_results`."""
        known = KnownMetrics(self.path, self.arrays, self.scores_file)
        frame = tidy((record, known.of(record)) for record in self.records)
        known.keep()
        return frame

    @cached_property
    def stale(self) -> frozenset[str]:
        """Keys of the records whose method, task, data, shared code or record schema has changed since."""
        return frozenset(stale_keys(self.records))

    @cached_property
    def unknown(self) -> list[str]:
        """Methods and tasks that are not registered here. Whether their code has changed is unknown."""
        return unknown_names(self.records)


def load_results(path: str | Path) -> pd.DataFrame:
    """All readable results of a folder as a tidy table.

    Detection metrics are computed from the stored scores. A cell without metrics (failed, skipped) has one row, and
    the row has no metric. A metric that is measured at every training step, such as ``accuracy_by_epoch``, has one
    row per step. ``step`` counts from 1, and is missing for all other metrics. Damaged files are left out with a
    warning.

    Args:
        path: a folder that ``run --out`` wrote.

    Returns:
        A DataFrame with the columns of `harness.results.table.COLUMNS`. ``task_params``, ``method_params``, ``health``
        and ``versions`` are JSON text; ``uses`` is separated by semicolons. Times are in seconds, memory in MiB, shares
        in [0, 1].

    Raises:
        RequestError: the folder is missing or no results folder.
    """
    results = Results.read(path)
    frame = results.frame
    for problem in results.problems:
        warnings.warn(problem, stacklevel=2)
    return frame
