"""Runs those cells of a plan that have no result: groups in sequence or in parallel, with optional time limits."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.records.store import FAILURES, Store
from harness.running.supervised import Supervised
from harness.selection.plan import Cell, CellSpec, Group, group, make_cell
from harness.selection.plugins import load_only

if TYPE_CHECKING:
    from harness.running.events import Event, Finished

RERUN = ("failed", "stale", "all")


@dataclass(frozen=True)
class Options:
    """How to run cells. These options do not change results, with two exceptions.
    The number of CPU threads, which jobs share, may change the last bits of a factorisation. With ``precision=auto``,
    the device decides the precision of training.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for CUDA where there is one.
        jobs: number of groups run at a time. Each group runs in a process with its own device or share of the cores.
        timeout: seconds for one cell's stage (base training, scoring, retraining). With a timeout, groups run in
            processes, and a process is ended when a stage takes longer.
        backend: joblib's backend for several jobs, ``loky`` (this machine) or ``dask``.
        scheduler: address of a Dask scheduler; without one, Dask starts ``jobs`` workers here.
        plugins: plug-in files or modules.
        data_dir: folder of real data.
    """

    device: str = "auto"
    jobs: int = 1
    timeout: float | None = None
    backend: str = "loky"
    scheduler: str | None = None
    plugins: tuple[str, ...] = ()
    data_dir: str | None = None


def to_run(cells: Sequence[Cell], store: Store, rerun: str | None) -> list[Cell]:
    """Cells without a result, and cells that ``rerun`` selects: ``failed`` (or skipped), ``stale`` or ``all``."""
    again = {None: set(), "failed": {*FAILURES, "skipped"}, "stale": {"stale"}, "all": None}[rerun]
    if again is None:
        return list(cells)
    return [cell for cell in cells if store.state(cell) in {"missing", *again}]


def resolve_device(device: str) -> str:
    """The device that ``auto`` stands for, or the given device after a check that it exists.

    Raises:
        RequestError: the device does not exist.
    """
    import torch

    import harness.gradients.products  # noqa: F401 - the import checks a setting, before anything is written

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (number.isascii() and number.isdigit())):
        raise RequestError(f"--device {device} is not a device; give auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise RequestError(f"--device {device} is not there; this machine has {count} CUDA devices")
        return f"cuda:{number or 0}"
    return "cpu"


def execute(cells: Sequence[Cell], store: Store, options: Options, listen: Callable[[Event], None]) -> None:
    """Run cells and store each record when it is finished. Every event goes to ``listen``."""
    from harness.running.events import Finished

    groups = group(cells, None if options.timeout is not None else options.jobs)
    alone = options.jobs == 1 and options.backend == "loky"
    try:
        for event in _serial(groups, options) if alone else _parallel(groups, store, options):
            if isinstance(event, Finished) and event.arrays is not None:
                store.write(event.cell, event.record, event.arrays)
            listen(event)
    except KeyboardInterrupt:
        if not alone and options.backend == "loky":
            _kill_workers()
        raise


def _kill_workers() -> None:
    """End joblib's worker processes at once. They write each record whole, so a kill loses no finished cell."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


def _serial(groups: Iterable[Group], options: Options) -> Iterator[Event]:
    from harness.running.group import run_group

    device = resolve_device(options.device)
    for members in groups:
        if options.timeout is None:
            yield from run_group(members, device)
        else:
            yield from _limited(members, device, options)


def _parallel(groups: Sequence[Group], store: Store, options: Options) -> Iterator[Event]:
    """Run groups in joblib's workers.

    Worker processes on this machine write their records themselves, so that an interruption loses no record. Dask's
    workers may be on other machines, so they send their records back.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    devices = _devices(options)
    out = str(store.path.resolve()) if options.backend == "loky" else None
    left = dict(enumerate(groups))
    jobs = (
        delayed(_worker)(i, [cell.spec for cell in members.cells], devices[i % len(devices)], options, out)
        for i, members in enumerate(groups)
    )
    try:
        with _backend(options), parallel_config(options.backend, n_jobs=options.jobs):
            for i, finished in Parallel(return_as="generator_unordered")(jobs):
                del left[i]
                yield from finished
    except BrokenProcessPool:  # a worker died and ended joblib's pool: run seed by seed to find the cell that fails
        for i, members in left.items():
            for one in group(members.cells, jobs=None):
                yield from _limited(one, devices[i % len(devices)], options)


@contextmanager
def _backend(options: Options) -> Iterator[None]:
    if options.backend == "loky":
        yield
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise RequestError("--backend dask needs the extra dask: pip install 'influence-harness[dask]'") from error
    try:
        client = (
            distributed.Client(options.scheduler, timeout=20)
            if options.scheduler
            else distributed.Client(n_workers=options.jobs, threads_per_worker=1, dashboard_address=None)
        )
    except (OSError, ValueError) as error:
        raise RequestError(f"--scheduler {options.scheduler} cannot be reached: {error}") from error
    with client:
        yield


def _devices(options: Options) -> list[str]:
    import torch

    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [resolve_device(options.device)]


def _prepare(options: Options) -> None:
    """Give a new process the data folder, threads and plug-ins of the process that planned the run."""
    import torch

    if options.data_dir is not None:
        os.environ["HARNESS_DATA"] = options.data_dir
    torch.set_num_threads(max(1, _cores() // options.jobs))
    load_only(options.plugins)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _worker(
    index: int, specs: list[CellSpec], device: str, options: Options, out: str | None
) -> tuple[int, list[Finished]]:
    """Run one group in this process. Records go to the folder ``out`` or, without ``out``, back to the caller."""
    from harness.running.events import Finished
    from harness.running.group import run_group

    _prepare(options)
    multiprocessing.set_start_method("spawn", force=True)  # joblib's own method is unknown to the workers' children
    store = None if out is None else Store(out)
    members = Group(tuple(make_cell(spec) for spec in specs))
    finished = []
    for event in run_group(members, device) if options.timeout is None else _limited(members, device, options):
        if isinstance(event, Finished):
            if store is not None:
                store.write(event.cell, event.record, event.arrays or {})
                event = replace(event, arrays=None)
            finished.append(event)
    return index, finished


def _limited(members: Group, device: str, options: Options) -> Iterator[Event]:
    """Run a group in its own process, which is ended at the time limit. Unfinished cells run in another process."""
    from harness.running.events import Begin, Finished, new_record

    left = list(members.cells)
    while left:
        process = Supervised(_child, ([cell.spec for cell in left], device, options), options.timeout)
        at_fault = tuple(left)
        for event in process.events():
            if isinstance(event, Begin):
                at_fault = event.cells
            else:
                left = [cell for cell in left if cell.slot != event.cell.slot]
            yield event
        blamed = {cell.slot for cell in at_fault} & {cell.slot for cell in left}
        if process.status:
            for cell in [cell for cell in left if cell.slot in blamed]:
                yield Finished(cell, new_record(cell, device, process.status, process.error), {})
            left = [cell for cell in left if cell.slot not in blamed]
        elif left:
            raise RuntimeError(f"{len(left)} cells of {members.name} ended without a record")


def _child(specs: list[CellSpec], device: str, options: Options, pipe: Connection) -> None:
    """Run cells in this process and send their events, then None."""
    from harness.running.group import run_group

    try:
        _prepare(options)
        for event in run_group(Group(tuple(make_cell(spec) for spec in specs)), device):
            pipe.send(event)
        pipe.send(None)
    except KeyboardInterrupt:
        pass
