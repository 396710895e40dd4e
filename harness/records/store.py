"""The store: one JSON record per cell, and its raw scores as ``.npz``. Each file is moved into place whole.

    OUT/influence-harness.json                     marks the folder as a results folder
    OUT/records/<task>/<method>/seed<s>-<slot>.json
    OUT/records/<task>/<method>/seed<s>-<slot>.npz    scores (n,), flagged (n,) bool, noisy (n,) bool if known

Results folders are merged by copying files. A record is reported as a problem and left out if its file is damaged or
in the wrong place, or if the scores do not belong to the record.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.kept_files import write_whole
from harness.errors import RequestError, without_controls
from harness.records.schema import Damaged, parsed, record_fields
from harness.records.score_arrays import arrays_of, check_arrays
from harness.selection.plan import PRESET_ALIASES

if TYPE_CHECKING:
    from harness.selection.plan import Cell

MARKER = "influence-harness.json"
FAILURES = ("failed", "timeout", "out_of_memory")
STATUSES = ("ok", "skipped", *FAILURES)


@dataclass
class Record:
    """The stored record of a cell.

    Times are in seconds, memory is in MiB, metrics are fractions. ``extract_seconds`` is the time of all parts that
    the method used: passes over the data, gradients, cross-validation. A shared part counts for every method that
    used the part. ``total_seconds`` is ``extract_seconds`` plus ``score_seconds``, without training the base model.
    ``cost`` splits the total into extraction, recording, cross_validation, retraining and scoring. The entry
    ``repair``, the cross-validation for ``repair=relabel``, comes on top.
    ``metrics`` holds metrics of models, ``curves`` holds metrics at each training step. Detection metrics are
    computed from the raw scores when results are read.
    """

    key: str
    slot: str
    versions: dict[str, Any]
    task: str
    task_params: dict[str, Any]
    task_spec: str
    task_title: str
    method: str
    method_params: dict[str, Any]
    method_spec: str
    method_title: str
    seed: int
    protocol: str
    preset: str
    status: str
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    train_seconds: float | None = None
    extract_seconds: float | None = None
    score_seconds: float | None = None
    total_seconds: float | None = None
    cost: dict[str, float] = field(default_factory=dict)
    retrain_seconds: float | None = None
    peak_memory_mib: float | None = None
    n_train: int | None = None
    n_flagged: int | None = None
    n_noisy: int | None = None
    uses: list[str] = field(default_factory=list)
    device: str = ""
    device_name: str = ""
    torch: str = ""
    python: str = ""
    commit: str = ""
    utc: str = ""
    scores_sha256: str | None = None

    @property
    def scored(self) -> bool:
        """Whether the record has one score per training sample."""
        return self.status == "ok" and self.n_flagged is not None

    @property
    def attributes(self) -> bool:
        """Whether the record has attributions to test samples instead of scores."""
        return self.status == "ok" and self.n_flagged is None


FORMER_NAMES = {"task_label": "task_spec", "method_label": "method_spec"}
"""The current name of each record field that had another name before."""


def is_store(path: str | Path) -> bool:
    """Whether a folder is marked as a results folder. False if the folder cannot be read."""
    return os.path.isfile(os.path.join(path, MARKER))


class Store:
    """A results folder.

    Args:
        path: the folder.
        create: create a missing folder. If False, a missing folder is an error.

    Raises:
        RequestError: the folder is missing, is a file, holds something else, or cannot be written.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        marker = self.path / MARKER
        try:
            if self.path.exists() and not self.path.is_dir():
                raise RequestError(f"{self.path} is a file; give a folder for results")
            if not marker.is_file():
                if not create:
                    what = "is no results folder" if self.path.exists() else "does not exist"
                    raise RequestError(f"{self.path} {what}; give the folder that `run --out` wrote")
                if self.path.exists() and any(self.path.iterdir()):
                    raise RequestError(
                        f"{self.path} holds other files and no results of this harness; give an empty or new folder"
                    )
                self.path.mkdir(parents=True, exist_ok=True)
                (self.path / "records").mkdir(exist_ok=True)
                write_whole(marker, json.dumps({"format": 1, "what": "results of influence-harness"}).encode())
            elif create and not (os.access(self.path, os.W_OK) and (self.path / "records").is_dir()):
                raise RequestError(f"the results folder {self.path} cannot be written, or its folder records is gone")
        except OSError as error:
            raise RequestError(f"the results folder {self.path} cannot be used: {error.strerror or error}") from error
        self.problems: list[str] = []

    def location(self, cell: Cell) -> Path:
        """Where a cell's record is or will be."""
        return self._path(cell.task.name, cell.method.name, cell.seed, cell.slot)

    def find(self, cell: Cell) -> Record | None:
        """The cell's stored record, stale or not; None if there is none or it is damaged."""
        path = self.location(cell)
        record = self._read(path) if path.is_file() else None
        return record if record is not None and self._is_whole(record) else None

    def _is_whole(self, record: Record) -> bool:
        """Whether a record's arrays are there and fit."""
        if record.scores_sha256 is None:
            return True
        content = self._scores(record)
        try:
            if content is not None:
                check_arrays(content, record.n_train)
        except Damaged as error:
            self._unreadable(record, error)
            return False
        return content is not None

    def state(self, cell: Cell) -> str:
        """``missing`` (or damaged), ``stale``, or the stored record's status. A failed record is never ``stale``."""
        return state_of(self.find(cell), cell)

    def write(self, cell: Cell, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
        """Store a record. The scores are written before the record, so no record is seen without its scores.

        Raises:
            RequestError: the folder is gone, or cannot be written.
        """
        if not (self.path / MARKER).is_file():  # without the check, a second folder would be made
            raise RequestError(f"the results folder {self.path} is no longer there; put it back, and run this again")
        path = self.location(cell)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if arrays:
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
                record.scores_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
                write_whole(path.with_suffix(".npz"), buffer.getvalue())
            write_whole(path, (json.dumps(asdict(record), indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise RequestError(
                f"{path} cannot be written: {error.strerror or error}; all finished cells are kept, and the same "
                "command goes on"
            ) from error

    def records(self) -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
        """All readable records with their arrays, sorted by file. Other records are listed in `problems`."""
        for record in self.headers():
            arrays = self.arrays(record)
            if arrays is not None:
                yield record, arrays

    def headers(self) -> Iterator[Record]:
        """All readable records, sorted by file, without reading arrays. Other records are listed in `problems`."""
        self.problems.clear()
        for path in sorted((self.path / "records").glob("*/*/*.json")):
            record = self._read(path)
            if record is not None:
                yield record

    def arrays(self, record: Record) -> dict[str, np.ndarray] | None:
        """A record's arrays: ``scores``, ``flagged`` and others. Empty for a record without arrays.

        If the arrays are damaged, the result is None and `problems` names the file.
        """
        if record.scores_sha256 is None:
            return {}
        content = self._scores(record)
        if content is None:
            return None
        try:
            return arrays_of(content, record.n_train)
        except Damaged as error:
            self._unreadable(record, error)
            return None

    def scores_file(self, record: Record) -> Path:
        """Where a record's arrays are, if it has any."""
        return self.path.joinpath("records", record.task, record.method, f"seed{record.seed}-{record.slot}.npz")

    def _scores(self, record: Record) -> bytes | None:
        """A record's file of arrays; None, and a problem, if it is missing or is not the record's."""
        try:
            content = self.scores_file(record).read_bytes()
            if hashlib.sha256(content).hexdigest() != record.scores_sha256:
                raise ValueError("they do not belong to the record")
        except (OSError, ValueError) as error:
            self._unreadable(record, error)
            return None
        return content

    def _unreadable(self, record: Record, error: Exception) -> None:
        path = self.scores_file(record).with_suffix(".json")
        self.problems.append(without_controls(f"{path}: its scores are unreadable ({_brief(error)}); left out"))

    def _path(self, task: str, method: str, seed: int, slot: str) -> Path:
        return self.path.joinpath("records", task, method, f"seed{seed}-{slot}.json")

    def _read(self, path: Path) -> Record | None:
        try:
            content = parsed(path.read_text(encoding="utf-8"))
            content = {FORMER_NAMES.get(name, name): value for name, value in content.items()}
            preset = content.get("preset")
            if isinstance(preset, str):
                content["preset"] = PRESET_ALIASES.get(preset, preset)
            record = Record(**record_fields(content, Record, STATUSES))
            here = (record.task, record.method, f"seed{record.seed}-{record.slot}")
            if here != (*path.parts[-3:-1], path.stem):
                raise Damaged("it does not belong to this place")
        except (OSError, ValueError) as error:
            self.problems.append(without_controls(f"{path}: not a readable record ({_brief(error)}); left out"))
            return None
        return record


def state_of(record: Record | None, cell: Cell) -> str:
    """As `Store.state`, of what `Store.find` gave."""
    if record is None:
        return "missing"
    return record.status if record.key == cell.key or record.status in FAILURES else "stale"


def counts(states: Counter[str]) -> str:
    """How many cells of each state, in words."""
    total = sum(states.values())
    return f"{some_cells(total)}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def some_cells(count: int) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{count} cell" if count == 1 else f"{count} cells"


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
