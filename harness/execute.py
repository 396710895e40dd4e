"""Running a plan: what still has to run, one group after another or several at once, with time limits if asked."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.plan import Cell, CellSpec, Group, group, make_cell
from harness.registry import load_plugin
from harness.store import FAILURES, Store

if TYPE_CHECKING:
    from harness.runner import Event

RERUN = ("failed", "stale", "all")


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: none of this changes a result.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for CUDA where there is one.
        jobs: groups run at a time, each in a process with its own device or share of the cores.
        timeout: seconds for one cell's stage (base training, scoring, retraining); groups then run in processes
            that are ended when they overrun.
        plugins: plug-in files or modules.
        data_dir: folder of real data.
    """

    device: str = "auto"
    jobs: int = 1
    timeout: float | None = None
    plugins: tuple[str, ...] = ()
    data_dir: str | None = None


def to_run(cells: Sequence[Cell], store: Store, rerun: str | None) -> list[Cell]:
    """The cells that have no result yet, and those that ``rerun`` names: ``failed``, ``stale`` or ``all``."""
    again = {None: set(), "failed": set(FAILURES), "stale": {"stale"}, "all": None}[rerun]
    if again is None:
        return list(cells)
    return [cell for cell in cells if store.state(cell) in {"missing", *again}]


def resolve_device(device: str) -> str:
    """``auto`` made concrete, and a CUDA device checked.

    Raises:
        RequestError: no such device.
    """
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise RequestError(f"--device {device} is not a device; give auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise RequestError(f"--device {device} is not there; this machine has {count} CUDA devices")
        return f"cuda:{number or 0}"
    return "cpu"


def execute(cells: Sequence[Cell], store: Store, options: Options, listen: Callable[[Event], None]) -> None:
    """Run cells and store their records as they come; every event goes to ``listen``."""
    from harness.runner import Finished

    groups = group(cells)
    for event in _serial(groups, store, options) if options.jobs == 1 else _parallel(groups, store, options):
        if isinstance(event, Finished) and options.jobs == 1:
            store.write(event.cell, event.record, event.arrays)
        listen(event)


def _serial(groups: Iterable[Group], store: Store, options: Options) -> Iterator[Event]:
    from harness.runner import run_group

    device = resolve_device(options.device)
    for members in groups:
        if options.timeout is None:
            yield from run_group(members, device)
        else:
            yield from _limited(members, device, options)


def _parallel(groups: Sequence[Group], store: Store, options: Options) -> Iterator[Event]:
    """Groups in joblib's worker processes; each worker writes its records, so an interruption loses none."""
    from joblib import Parallel, delayed

    from harness.runner import Finished

    devices = _devices(options)
    jobs = (
        delayed(_worker)(
            [cell.spec for cell in members.cells], devices[i % len(devices)], options, str(store.path), options.jobs
        )
        for i, members in enumerate(groups)
    )
    for specs in Parallel(n_jobs=options.jobs, return_as="generator_unordered")(jobs):
        for spec in specs:
            cell = make_cell(spec)
            record = store.find(cell)
            assert record is not None
            yield Finished(cell, record, {})


def _devices(options: Options) -> list[str]:
    import torch

    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [resolve_device(options.device)]


def _prepare(options: Options, jobs: int) -> None:
    """Make a fresh process like the one that planned."""
    import torch

    if options.data_dir is not None:
        os.environ["HARNESS_DATA"] = options.data_dir
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    for plugin in options.plugins:
        load_plugin(plugin)


def _worker(specs: list[CellSpec], device: str, options: Options, out: str, jobs: int) -> list[CellSpec]:
    from harness.runner import Finished, run_group

    _prepare(options, jobs)
    store = Store(Path(out))
    members = Group(tuple(make_cell(spec) for spec in specs))
    events = run_group(members, device) if options.timeout is None else _limited(members, device, options)
    for event in events:
        if isinstance(event, Finished):
            store.write(event.cell, event.record, event.arrays)
    return specs


def _limited(members: Group, device: str, options: Options) -> Iterator[Event]:
    """A group in a process of its own, ended when a stage overruns; what it has not finished starts in another."""
    from harness.runner import Begin, Finished, new_record

    assert options.timeout is not None
    context = multiprocessing.get_context("spawn")
    left = list(members.cells)
    while left:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=([c.spec for c in left], device, options, theirs), daemon=False)
        process.start()
        theirs.close()
        stage: Any = Begin("start", tuple(left))
        limit: float | None = None  # starting Python and importing torch is not the cell's time
        status, error = "", ""
        try:
            while True:
                if not ours.poll(limit):
                    status, error = "timeout", f"{stage.stage} took longer than {limit:g} s"
                    break
                event = ours.recv()
                if event is None:
                    break
                if isinstance(event, Begin):
                    stage = event
                    limit = options.timeout * (len(event.cells) if event.stage == "retrain" else 1)
                else:
                    left = [cell for cell in left if cell.slot != event.cell.slot]
                yield event
        except EOFError:
            process.join()
            status, error = "failed", f"the process ended during {stage.stage} with exit code {process.exitcode}"
            if process.exitcode == -9:
                status, error = "out_of_memory", f"the process was killed during {stage.stage}, as for lack of memory"
        finally:
            if process.is_alive():
                process.kill()
            process.join()
            ours.close()
        if status:
            blamed = {cell.slot for cell in stage.cells}
            for cell in [cell for cell in left if cell.slot in blamed]:
                yield Finished(cell, new_record(cell, device, status, error), {})
            left = [cell for cell in left if cell.slot not in blamed]
        elif left:
            raise RuntimeError(f"{len(left)} cells of {members.label} ended without a record")


def _child(specs: list[CellSpec], device: str, options: Options, pipe: Any) -> None:
    from harness.runner import run_group

    try:
        _prepare(options, options.jobs)
        for event in run_group(Group(tuple(make_cell(spec) for spec in specs)), device):
            pipe.send(event)
        pipe.send(None)
    except KeyboardInterrupt:
        pass
