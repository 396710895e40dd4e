"""Runs those cells of a plan that have no result: groups one after the other, or several at a time."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.records.store import FAILURES, Store
from harness.running.options import Options, devices, prepare, resolve_device
from harness.running.worker import run
from harness.selection.plan import Cell, Group, SentCell, group, received

if TYPE_CHECKING:
    from harness.running.events import Event, Finished

RERUN = ("failed", "stale", "all")


def to_run(cells: Sequence[Cell], store: Store, rerun: str | None) -> list[Cell]:
    """Cells without a result, and cells that ``rerun`` selects: ``failed`` (or skipped), ``stale`` or ``all``."""
    again = {None: set(), "failed": {*FAILURES, "skipped"}, "stale": {"stale"}, "all": None}[rerun]
    if again is None:
        return list(cells)
    return [cell for cell in cells if store.state(cell) in {"missing", *again}]


def execute(cells: Sequence[Cell], store: Store, options: Options, listen: Callable[[Event], None]) -> None:
    """Run cells and store each record when it is finished. Every event goes to ``listen``.

    Raises:
        RequestError: Dask is missing, or its scheduler or one of its workers cannot do what is asked.
    """
    from harness.running.events import Finished

    apart = options.timeout is not None or options.scheduler is not None  # a scheduler's workers are not counted
    groups = group(cells, None if apart else options.jobs)
    with closing(_events(groups, store, options)) as events:
        for event in events:
            if isinstance(event, Finished) and event.arrays is not None:
                store.write(event.cell, event.record, event.arrays)
            listen(event)


def _events(groups: Sequence[Group], store: Store, options: Options) -> Generator[Event, None, None]:
    if options.backend == "dask":
        from harness.running.cluster import on_cluster

        yield from on_cluster(groups, options)
    elif options.jobs > 1 and options.supervised:
        from harness.running.lanes import in_lanes

        yield from in_lanes(groups, options)
    elif options.jobs > 1:
        yield from _parallel(groups, store, options)
    else:
        yield from run(groups, resolve_device(options.device), options)


def _parallel(groups: Sequence[Group], store: Store, options: Options) -> Iterator[Event]:
    """Run groups in joblib's workers, which write their records themselves, so that an interruption loses no record."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    out = str(store.path.resolve())
    left = dict(enumerate(groups))
    jobs = (
        delayed(_worker)(i, [cell.sent for cell in members.cells], options, out) for i, members in enumerate(groups)
    )
    try:
        for i, finished in Parallel(n_jobs=options.jobs, return_as="generator_unordered")(jobs):
            del left[i]
            yield from finished
    except BrokenProcessPool:  # a worker died and ended joblib's pool: run seed by seed to find the cell that fails
        one_by_one = (one for members in left.values() for one in group(members.cells, jobs=None))
        yield from run(one_by_one, resolve_device(options.device), replace(options, isolate=True))
    except KeyboardInterrupt:
        _kill_workers()
        raise


def _kill_workers() -> None:
    """End joblib's worker processes at once. They write each record whole, so a kill loses no finished cell."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


def _worker(index: int, sent: list[SentCell], options: Options, out: str) -> tuple[int, list[Finished]]:
    """Run one group in one of joblib's workers. Records go to the folder ``out``."""
    from harness.running.events import Finished

    prepare(options)
    multiprocessing.set_start_method("spawn", force=True)  # joblib's own method is unknown to the workers' children
    store = Store(out)
    members = Group(tuple(received(cell) for cell in sent))
    finished = []
    for event in run([members], _own_device(options), options):
        if isinstance(event, Finished):
            store.write(event.cell, event.record, event.arrays or {})
            finished.append(replace(event, arrays=None))
    return index, finished


def _own_device(options: Options) -> str:
    """This worker's device: joblib numbers its workers, so that those of one machine share its GPUs evenly."""
    number = re.search(r"\d+$", multiprocessing.current_process().name)
    known = devices(options)
    return known[int(number.group()) % len(known) if number else 0]
