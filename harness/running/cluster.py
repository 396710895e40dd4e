"""Runs groups on Dask's workers: on this machine, or on a cluster whose scheduler's address is given."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.running.options import Options, prepare, resolve_device
from harness.running.worker import run
from harness.selection.plan import Cell, Group, SentCell, received
from harness.selection.versions import machinery_version

if TYPE_CHECKING:
    from harness.running.events import Event, Finished

ELSEWHERE = 2
"""How often a group is given to another worker after its worker died. A scheduler that runs already has its own number,
``distributed.scheduler.allowed-failures``."""
PATIENCE = 20
"""Seconds to reach a scheduler, at first and after the connection is lost."""


def on_cluster(groups: Sequence[Group], options: Options) -> Iterator[Event]:
    """Run groups on workers. A group whose worker dies runs on another one; if that goes on, its cells fail.

    Workers may be on other machines, so they send records and arrays back, each as soon as its cell is finished: what
    a worker that dies has finished is kept.

    Raises:
        RequestError: Dask is missing; the scheduler cannot be reached, or is lost; or a worker lacks what it needs.
    """
    with _client(options) as client:
        _ready(client, options)
        distributed = importlib.import_module("distributed")
        finished = distributed.Queue(client=client)
        wanted = options, machinery_version(), finished
        waiting = {
            client.submit(_on_worker, [cell.sent for cell in members.cells], *wanted, pure=False): members
            for members in groups
        }
        left = {cell.slot for members in groups for cell in members.cells}
        connected = time.monotonic()
        while left:
            over = [future for future in waiting if future.done()]  # before the queue is read: nothing follows it
            try:
                sent = _sent(finished)
            except OSError as error:
                raise _lost(client) from error
            if client.status == "running":
                connected = time.monotonic()
            elif time.monotonic() > connected + PATIENCE or client.status == "closed":
                raise _lost(client)
            for event in sent:
                if event.cell.slot in left:  # a group that ran twice sends twice
                    left.remove(event.cell.slot)
                    yield event
            if any(future.status in ("cancelled", "lost") for future in waiting):
                raise _lost(client)
            for future in over:
                members = waiting.pop(future)
                for cell in [cell for cell in members.cells if cell.slot in left]:
                    left.remove(cell.slot)
                    yield _never_finished(cell, future.exception(), options)


def _sent(finished: Any) -> list[Finished]:
    """What workers have sent since the last call; waits a moment for it."""
    try:
        first = finished.get(timeout=0.2)
        return [pickle.loads(content) for content in [first, *finished.get(batch=True)]]  # noqa: S301 - our workers'
    except TimeoutError:
        return []


def _never_finished(cell: Cell, error: BaseException | None, options: Options) -> Finished:
    """The record of a cell whose group ended before it.

    Raises:
        BaseException: the group ended with an error of ours.
    """
    from harness.running.events import Finished, new_record

    if error is not None and not isinstance(error, importlib.import_module("distributed").KilledWorker):
        raise error
    told = "each worker that ran its group died; --isolate tells which cell ends them"
    return Finished(cell, new_record(cell, options.device, "failed", told), {})


def _lost(client: Any) -> RequestError:
    return RequestError(
        f"the connection to Dask's scheduler {client.scheduler.addr} is lost; all finished cells are kept, and the "
        "same command goes on when a scheduler runs"
    )


@contextmanager
def _client(options: Options) -> Iterator[Any]:
    try:
        dask: Any = importlib.import_module("dask")
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise RequestError("--backend dask needs the extra dask: pip install 'influence-harness[dask]'") from error
    limits = {
        "distributed.scheduler.allowed-failures": ELSEWHERE,
        "distributed.comm.timeouts.connect": PATIENCE,
    }
    with dask.config.set(limits):
        try:
            client = (
                distributed.Client(options.scheduler, timeout=PATIENCE)
                if options.scheduler
                else distributed.Client(n_workers=options.jobs, threads_per_worker=1, dashboard_address=None)
            )
        except (OSError, ValueError) as error:
            raise RequestError(f"--scheduler {options.scheduler} cannot be reached: {error}") from error
        with _quiet(), client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from writing tracebacks about what we say in a sentence."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _ready(client: Any, options: Options) -> None:
    """Wait for a worker, and check that every one that is there has the same code, the plug-ins and the data folder.

    Workers that come later are checked when they begin with a group.

    Raises:
        RequestError: a worker lacks something; the message names it.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        warnings.warn(
            f"the scheduler {client.scheduler.addr} has no workers yet; waiting for one (`dask worker` starts one)",
            stacklevel=2,
        )
        client.wait_for_workers(1)
    for worker, lack in client.run(_lacks, options, machinery_version(), on_error="return").items():
        if isinstance(lack, BaseException):
            raise RequestError(f"Dask's worker {worker} cannot run cells: {type(lack).__name__}: {lack}")
        if lack:
            raise RequestError(f"Dask's worker {worker} cannot run cells: {lack}")


def _lacks(options: Options, version: str) -> str:
    """What this worker lacks, in a few words; empty if it lacks nothing."""
    if options.data_dir is not None and not os.path.isdir(options.data_dir):
        return f"it has no folder {options.data_dir}"
    if machinery_version() != version:
        return "its harness is of another version than the one that planned the run"
    try:
        prepare(options)
        resolve_device(options.device)
    except RequestError as error:
        return str(error)
    return ""


def _on_worker(sent: list[SentCell], options: Options, version: str, finished: Any) -> None:
    """Run one group in this worker, and send its records.

    Raises:
        RequestError: this worker, which came late, lacks something.
    """
    from harness.running.events import Finished

    lack = _lacks(options, version)
    if lack:
        worker = importlib.import_module("distributed").get_worker()
        raise RequestError(f"Dask's worker {worker.address} cannot run cells: {lack}")
    members = Group(tuple(received(cell) for cell in sent))
    for event in run([members], _device(options), options):
        if isinstance(event, Finished):
            finished.put(pickle.dumps(event))


def _device(options: Options) -> str:
    """This worker's device. Workers that we start are numbered; others share their machine's GPUs in their order."""
    from harness.running.options import devices

    known = devices(options)
    if len(known) == 1:
        return known[0]
    distributed: Any = importlib.import_module("distributed")
    worker = distributed.get_worker()
    if isinstance(worker.name, int):
        return known[worker.name % len(known)]
    return known[_place(worker.address, distributed.get_client().ncores()) % len(known)]


def _place(address: str, workers: Iterable[str]) -> int:
    """A worker's place among those of its machine, by their addresses, such as ``tcp://10.0.0.1:4711``."""
    machine = address.rpartition(":")[0]
    return sorted(other for other in workers if other.rpartition(":")[0] == machine).index(address)
