"""Running one group: one base model and one view for all its cells, then one retraining a distinct kept set."""

from __future__ import annotations

import functools
import importlib
import math
import os
import platform
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.clock import PeakMemory, timed
from harness.errors import Unsupported
from harness.metrics import flagged, tie_seed
from harness.plan import Cell, Group
from harness.seeds import derive
from harness.services import cross_validated, retrainer
from harness.store import Record
from harness.task_base import Split
from harness.versions import source_commit
from harness.view import View


@dataclass(frozen=True)
class Begin:
    """A stage starts: ``train`` (of the group's base model), ``score`` (of one cell) or ``retrain``."""

    stage: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Finished:
    """A cell has its record; ``arrays`` is None if both are stored already."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray] | None


Event = Begin | Finished


@dataclass
class _Scored:
    """A cell between scoring and retraining."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray]
    keep: np.ndarray


def run_group(group: Group, device: str = "cpu") -> Iterator[Event]:
    """Score every cell of a group and retrain what they trim, yielding events as they happen.

    A cell that fails becomes a record with its error. Only an interruption leaves this generator as an exception.
    """
    task, seed = group.task, group.seed
    _warm_up(device)
    yield Begin("train", group.cells)
    model_seed = derive("model", task.name, seed)
    try:
        loaded = task.load(derive("data", task.name, seed))
        if not isinstance(loaded, tuple) or len(loaded) != 2 or not isinstance(loaded[0], Split):
            raise TypeError(f"{task.name}.load must return a Split and the true labels, or None where none are known")
        split, truth = loaded
        split = split.to(device)
        with timed(device) as training:
            model = task.train(split, None, model_seed)
        base = task.evaluate(model, split)
        if "accuracy" not in base:
            raise ValueError(f"{task.name}.evaluate must give 'accuracy'; it gave {', '.join(base) or 'nothing'}")
        view = task.view(model, split)
    except (Exception, SystemExit) as error:
        yield from _all_failed(group.cells, error, device)
        return
    noisy = None if truth is None else np.asarray(truth) != split.train.labels.cpu().numpy()
    retrain = retrainer(task, split, model_seed)
    out_of_sample = cross_validated(task, split, model_seed, derive("folds", task.name, seed))
    scored: list[_Scored] = []
    for cell in group.cells:
        yield Begin("score", (cell,))
        record = new_record(cell, device)
        record.train_seconds, record.n_train = training.seconds, view.n
        record.n_noisy = None if noisy is None else int(noisy.sum())
        own = view.fresh(
            derive("method", task.name, cell.method.name, seed), retrain=retrain, out_of_sample=out_of_sample
        )
        memory = PeakMemory(device)
        try:
            scores = _score(cell, own, record)
        except (Exception, SystemExit) as error:
            yield Finished(cell, _failed(record, error), {})
            continue
        finally:
            record.peak_memory_mib = memory.mib()
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
        mask = np.zeros(view.n, dtype=bool)
        if cell.method.trims:
            mask = flagged(scores, task.budget, tie_seed(task.name, cell.method.name, seed))
        record.n_flagged = int(mask.sum())
        arrays = {"scores": scores, "flagged": mask}
        if cell.method.trims and noisy is not None:
            arrays["noisy"] = noisy
        scored.append(_Scored(cell, record, arrays, ~mask))
    yield from _retrained(scored, group, split, base, model_seed, device)


def new_record(cell: Cell, device: str, status: str = "ok", error: str = "") -> Record:
    """A cell's record with everything that is known before it runs."""
    return Record(
        key=cell.key,
        slot=cell.slot,
        versions=cell.versions,
        **cell.identity,
        task_label=cell.task_label,
        task_title=cell.task.title or cell.task.name,
        method_label=cell.method_label,
        method_title=cell.method.title or cell.method.name,
        status=status,
        error=error,
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu_name(),
        torch=torch.__version__,
        python=platform.python_version(),
        commit=source_commit(),
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _score(cell: Cell, view: View, record: Record) -> np.ndarray:
    for module in cell.method.requires:
        try:
            importlib.import_module(module)  # before the clock starts
        except ImportError as error:
            raise Unsupported(
                f"{cell.method.name} needs the module {module}, which cannot be imported: {error}"
            ) from error
    record.uses = list(cell.method.uses)
    before = view.computed_seconds
    with timed(view.device) as watch:
        found = cell.method.score(view)
    if found is None:
        raise ValueError(f"{cell.method.name} returned None; scores of shape ({view.n},) were expected")
    scores = np.asarray(found, dtype=np.float64)
    record.extract_seconds = view.extract_seconds
    record.score_seconds = max(0.0, watch.seconds - (view.computed_seconds - before))
    record.health = _plain(view.health)
    if scores.shape != (view.n,):
        raise ValueError(f"{cell.method.name} returned scores of shape {scores.shape}; ({view.n},) was expected")
    bad = int((~np.isfinite(scores)).sum())
    if bad == view.n:
        raise ValueError(f"none of the {bad} scores is finite")
    record.health["non_finite"] = bad
    record.health["largest_tie"] = largest_tie(scores[np.isfinite(scores)])
    return scores


def largest_tie(scores: np.ndarray) -> int:
    """How many finite scores, at most, are equal up to rounding, to 1e-9 of themselves; their order is noise."""
    ordered = np.sort(scores)
    starts = np.flatnonzero(np.diff(ordered) > 1e-9 * np.abs(ordered[1:])) + 1
    return int(np.diff([0, *starts, len(ordered)]).max())


def _retrained(
    scored: list[_Scored], group: Group, split: Any, base: dict[str, float], model_seed: int, device: str
) -> Iterator[Event]:
    by_keep: dict[bytes, list[_Scored]] = {}
    for entry in scored:
        by_keep.setdefault(np.packbits(entry.keep).tobytes(), []).append(entry)
    pending = []
    for entries in by_keep.values():
        if entries[0].keep.all():  # nothing is removed: it is the base model
            yield from _finished(entries, base, base, 0.0)
        else:
            pending.append(entries)
    if not pending:
        return
    yield Begin("retrain", tuple(entry.cell for entries in pending for entry in entries))
    try:
        batches = group.task.train_many(split, [entries[0].keep for entries in pending], model_seed)
        while pending:
            with timed(device) as watch:
                models = next(batches)
            for model in models:
                metrics = group.task.evaluate(model, split)
                yield from _finished(pending.pop(0), base, metrics, watch.seconds / len(models))
    except Exception as error:
        for entry in (entry for entries in pending for entry in entries):
            yield Finished(entry.cell, _failed(entry.record, error), entry.arrays)


def _finished(
    entries: list[_Scored], base: dict[str, float], metrics: dict[str, float], seconds: float
) -> Iterator[Finished]:
    """Records of the cells that share a kept set, completed with the model's metrics."""
    for entry in entries:
        entry.record.retrain_seconds = seconds
        metrics = {name: float(value) for name, value in metrics.items()}
        entry.record.metrics = {f"{name}_base": float(value) for name, value in base.items()}
        entry.record.metrics |= metrics
        entry.record.metrics |= {f"{name}_gain": metrics[name] - base[name] for name in metrics.keys() & base.keys()}
        yield Finished(entry.cell, entry.record, entry.arrays)


def _all_failed(cells: tuple[Cell, ...], error: BaseException, device: str) -> Iterator[Finished]:
    for cell in cells:
        yield Finished(cell, _failed(new_record(cell, device), error), {})


def _failed(record: Record, error: BaseException) -> Record:
    if isinstance(error, Unsupported):
        record.status, record.error = "skipped", str(error) or "it gave no reason"
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        record.status, record.error = "out_of_memory", f"{type(error).__name__}: {error}"
    else:
        last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
        where = f" ({Path(last.filename).name}:{last.lineno})" if last else ""
        record.status, record.error = "failed", f"{type(error).__name__}: {error}{where}"
    return record


def _warm_up(device: str) -> None:
    """One small factorisation and one optimiser step, so that no model or method pays for the libraries' start."""
    square = torch.eye(64, device=device, dtype=torch.float64)
    torch.linalg.cholesky(square @ square)
    weight = torch.ones(1, device=device, requires_grad=True)
    torch.autograd.backward((weight**2).sum())
    torch.optim.Adam([weight]).step()


def _plain(value: Any) -> Any:
    """Health entries as JSON has them; infinities and NaN as text."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items() if entry != {}}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@functools.lru_cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"
