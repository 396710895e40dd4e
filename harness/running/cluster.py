"""Runs groups on Dask's workers: on this machine, or on a cluster whose scheduler's address is given."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.running.options import Options, prepare, resolve_device
from harness.running.worker import run
from harness.selection.plan import Group, SentCell, received
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

    Workers may be on other machines, so they send records and arrays back.

    Raises:
        RequestError: Dask is missing; the scheduler cannot be reached, or is lost; or a worker lacks what it needs.
    """
    from harness.running.events import Finished, new_record

    with _client(options) as client:
        _ready(client, options)
        distributed = importlib.import_module("distributed")
        waiting = {
            client.submit(_on_worker, [cell.sent for cell in members.cells], options, pure=False): members
            for members in groups
        }
        try:
            for future in distributed.as_completed(waiting):
                members = waiting[future]
                if future.status == "finished":
                    yield from future.result()
                elif future.status == "error":
                    error = future.exception()
                    if not isinstance(error, distributed.KilledWorker):
                        raise error
                    told = "each worker that ran its group died; --isolate tells which cell ends them"
                    for cell in members.cells:
                        yield Finished(cell, new_record(cell, options.device, "failed", told), {})
                else:
                    raise _lost(client)
        except (OSError, distributed.client.FutureCancelledError) as error:
            raise _lost(client) from error


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
    """Check that every worker has the same code, the plug-ins and the data folder.

    Raises:
        RequestError: there is no worker, or a worker lacks something; the message names it.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise RequestError(f"the scheduler {client.scheduler.addr} has no workers; start `dask worker`") from error
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


def _on_worker(sent: list[SentCell], options: Options) -> list[Finished]:
    """Run one group in this worker, and return its records."""
    from harness.running.events import Finished

    prepare(options)
    members = Group(tuple(received(cell) for cell in sent))
    return [event for event in run([members], _device(options), options) if isinstance(event, Finished)]


def _device(options: Options) -> str:
    """This worker's device: the workers that we start are numbered, and share this machine's GPUs evenly."""
    from harness.running.options import devices

    number = importlib.import_module("distributed").get_worker().name
    known = devices(options)
    return known[number % len(known) if isinstance(number, int) else 0]
