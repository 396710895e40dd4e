"""Metrics that were computed from stored scores before, so that a report need not read every file of scores again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.kept_files import write_whole
from harness.results.table import detection_metrics
from harness.selection.versions import modules_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from harness.records.store import Record

FILE = "metrics.json"
DEFINED_IN = (
    "harness.results.metrics",
    "harness.results.class_detection",
    "harness.results.lds",
    "harness.results.table",
)

Stamp = tuple[str, int, int]
"""The checksum in the record, and size and time of the last change of the file of scores."""


class KnownMetrics:
    """The metrics of a results folder's scores, kept in the folder's file ``metrics.json``.

    An entry counts while the file of scores has the size and the time of change that it had when its checksum was
    verified. All entries lapse when the code of the metrics changes. The file may be deleted at any time. In a folder
    that cannot be written, nothing is kept.

    Args:
        folder: the results folder.
        arrays: reads a record's arrays; None if they are damaged.
        scores_file: where a record's arrays are.
    """

    def __init__(
        self,
        folder: str | Path,
        arrays: Callable[[Record], Mapping[str, np.ndarray] | None],
        scores_file: Callable[[Record], Path],
    ) -> None:
        self._path = Path(folder) / FILE
        self._arrays, self._scores_file = arrays, scores_file
        self._version = modules_version(DEFINED_IN)
        self._known = _read(self._path, self._version)
        self._changed = False

    def of(self, record: Record) -> dict[str, float] | None:
        """Metrics of the record's scores, empty for a record without scores. None if the scores are damaged."""
        if record.scores_sha256 is None:
            return {}
        path = self._scores_file(record)
        name = "/".join(path.parts[-3:])
        with suppress(OSError):  # a missing file is reported below
            stat = path.stat()
            stamp = (record.scores_sha256, stat.st_size, stat.st_mtime_ns)
            entry = self._known.get(name)
            if entry is not None and entry[0] == stamp:
                return entry[1]
        arrays = self._arrays(record)
        if arrays is None:
            return None
        metrics = detection_metrics(arrays)
        self._known[name] = (stamp, metrics)
        self._changed = True
        return metrics

    def keep(self) -> None:
        """Write what was computed into the folder."""
        if not self._changed:
            return
        entries = {name: [*stamp, metrics] for name, (stamp, metrics) in self._known.items()}
        with suppress(OSError):  # a folder that cannot be written is read as well as any other
            write_whole(self._path, json.dumps({"version": self._version, "metrics": entries}).encode())


def _read(path: Path, version: str) -> dict[str, tuple[Stamp, dict[str, float]]]:
    """The entries of a file; none if the file is missing, damaged, or of another version of the metrics."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != version:
            return {}
        return {name: _entry(*entry) for name, entry in content["metrics"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _entry(checksum: str, size: int, changed: int, metrics: dict[str, float]) -> tuple[Stamp, dict[str, float]]:
    if not all(type(value) is float for value in metrics.values()):
        raise ValueError("metrics are numbers")
    return (checksum, size, changed), metrics
