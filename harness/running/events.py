"""Events of a run: a stage begins, or a cell's record is finished."""

from __future__ import annotations

import functools
import os
import platform
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from harness.errors import Unsupported
from harness.records.store import Record
from harness.selection.plan import Cell
from harness.selection.versions import source_commit

LONGEST = 2_000
"""Characters of an error's text that a record holds."""


@dataclass(frozen=True)
class Begin:
    """A stage starts: ``train`` (of the group's base model), ``truth`` (of an `LdsTask`), ``score`` (of one cell) or
    ``retrain``."""

    stage: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Finished:
    """A cell's record is finished. ``arrays`` is None if the record and its arrays are already stored."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray] | None


Event = Begin | Finished


def new_record(cell: Cell, device: str, status: str = "ok", error: str = "") -> Record:
    """A cell's record with everything that is known before it runs."""
    return Record(
        key=cell.key,
        slot=cell.slot,
        versions=cell.versions,
        **cell.identity,
        task_spec=cell.task_spec,
        task_title=cell.task.full_title,
        method_spec=cell.method_spec,
        method_title=cell.method.full_title,
        status=status,
        error=error,
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu_name(),
        torch=torch.__version__,
        python=platform.python_version(),
        commit=source_commit(),
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def all_failed(cells: tuple[Cell, ...], error: BaseException, device: str) -> Iterator[Finished]:
    for cell in cells:
        yield Finished(cell, failed(new_record(cell, device), error), {})


def failed(record: Record, error: BaseException) -> Record:
    """The record, with its status and error text set from ``error``."""
    record.status, record.error = failure(error)
    return record


def failure(error: BaseException) -> tuple[str, str]:
    """The status and the text of an error: ``skipped``, ``out_of_memory`` or ``failed``."""
    told = _shortened(_text_of(error))
    if isinstance(error, Unsupported):
        return "skipped", told or "it gave no reason"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in told:
        return "out_of_memory", f"{type(error).__name__}: {told}"
    last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f" ({Path(last.filename).name}:{last.lineno})" if last else ""
    return "failed", f"{type(error).__name__}: {told}{where}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # its own __str__ may fail
        return f"its text cannot be had: {type(another).__name__}"


def _shortened(text: str) -> str:
    """The text, or its beginning with its length, as a record holds it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


@functools.lru_cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"
