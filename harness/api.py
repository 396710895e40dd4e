"""The functions of the command line for use in Python, for example in notebooks and tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.files import in_folder
from harness.errors import RequestError, unknown
from harness.interfaces.method import Method
from harness.interfaces.params import build, layered
from harness.interfaces.spec import parse_term
from harness.interfaces.task import Task
from harness.records.requests import Request, parse_seeds, remember
from harness.records.store import Store, is_store
from harness.results.folder import load_results
from harness.running.elsewhere import check_importable, with_sources
from harness.running.execute import RERUN, execute, to_run
from harness.running.fork_server import start_early
from harness.running.options import Options, resolve_device
from harness.running.progress import Progress
from harness.selection.plan import Cell, group, preset_called
from harness.selection.plugins import absolute, load_plugin
from harness.selection.registry import METHODS, TASKS
from harness.selection.selections import selection

if TYPE_CHECKING:
    import pandas as pd


BACKENDS = ("loky", "dask")


def method(name: str, protocol: str = "fair", **params: Any) -> Method:
    """A method by name, ``method("datainf[damping=0.01]")`` or ``method("datainf", damping=0.01)``.

    Raises:
        RequestError: an unknown name or parameter, or a value that does not fit.
    """
    term = parse_term(name)
    cls = METHODS.get(term.pattern)
    made: Method = build(cls, layered(cls, protocol, None, {**term.params, **params}))
    return made


def task(name: str, protocol: str = "fair", preset: str = "fast", **params: Any) -> Task:
    """A task by name, ``task("moons[width=2]")`` or ``task("moons", width=2)``.

    Raises:
        RequestError: an unknown name or parameter, or a value that does not fit.
    """
    term = parse_term(name)
    cls = TASKS.get(term.pattern)
    made: Task = build(cls, layered(cls, protocol, preset_called(preset), {**term.params, **params}))
    return made


def planned(request: Request, options: Options, rerun: str | None = None) -> list[Cell]:
    """Check the options, load the plug-ins and return the request's cells. Nothing is written.

    Raises:
        RequestError: an option, a name or a plug-in is not valid; the message says which.
    """
    if rerun is not None and rerun not in RERUN:
        raise RequestError(f"--rerun {rerun} is not valid; it takes {', '.join(RERUN)}")
    for name, value in (("protocol", request.protocol), ("preset", request.preset), ("device", options.device)):
        if not isinstance(value, str):
            raise RequestError(f"--{name} {value!r} is not valid; it is text")
    if options.backend not in BACKENDS:
        raise unknown("backend", str(options.backend), BACKENDS)
    if not isinstance(options.jobs, int) or isinstance(options.jobs, bool):
        raise RequestError(f"--jobs {options.jobs!r} is not valid; give a whole number")
    if options.timeout is not None and not isinstance(options.timeout, int | float):
        raise RequestError(f"--timeout {options.timeout!r} is not valid; give a number of seconds")
    if options.jobs < 1:
        raise RequestError(f"--jobs {options.jobs} is not valid; give at least 1")
    if options.timeout is not None and not options.timeout > 0:
        raise RequestError(f"--timeout {options.timeout} is not valid; give a positive number of seconds")
    if options.scheduler is not None and options.backend != "dask":
        raise RequestError(f"--scheduler {options.scheduler} goes with --backend dask, not {options.backend}")
    if options.memory is not None and not (isinstance(options.memory, int | float) and options.memory > 0):
        raise RequestError(f"--memory {options.memory!r} is not valid; give a positive number of GiB")
    for plugin in options.plugins:
        load_plugin(plugin)
    return request.plan()


def asked(
    *,
    methods: str,
    tasks: str,
    seeds: Any,
    protocol: str,
    preset: str,
    device: str,
    jobs: int,
    timeout: float | None,
    memory: float | None,
    isolate: bool,
    backend: str,
    scheduler: str | None,
    data_dir: str | Path | None,
    plugins: Sequence[str],
    command: str = "",
) -> tuple[Request, Options]:
    """The `Request` and the `Options` from the arguments of the command line or of `run`.

    Raises:
        RequestError: the seeds are not valid.
    """
    sources = tuple(map(absolute, plugins))
    request = Request(
        methods=methods,
        tasks=tasks,
        seeds=parse_seeds(seeds),
        protocol=protocol,
        preset=preset,
        plugins=sources,
        command=command,
    )
    options = Options(
        device=device,
        jobs=jobs,
        timeout=timeout,
        memory=memory,
        isolate=isolate,
        backend=backend,
        scheduler=scheduler,
        plugins=sources,
        data_dir=None if data_dir is None else os.path.abspath(data_dir),
    )
    return request, options


def run_request(
    request: Request, options: Options, out: str | Path, rerun: str | None, progress: Progress
) -> tuple[Store, list[Cell]]:
    """Run the request's cells that have no result. Returns the store and all cells of the request.

    Names, values, data, device and folder are checked before anything runs or is written.

    Raises:
        RequestError: one of these checks failed; the message says in one sentence which.
    """
    if options.supervised:
        start_early()
    with in_folder(options.data_dir):  # around the plan, too: cell keys depend on the data
        cells = planned(request, options, rerun)
        store = Store(out, create=True) if is_store(out) else None
        pending = to_run(cells, store, rerun) if store else cells
        if pending or options.device != "auto":
            resolve_device(options.device)
        if pending:
            check_importable(pending, options)
            options = with_sources(pending, options)
            for made in {repr(made): made for cell in pending for made in (cell.task, cell.method)}.values():
                made.check()
        store = store or Store(out, create=True)
        if pending:
            remember(store, request)
            groups = [members.cells for members in group(pending, options.jobs)]
            with progress.of(groups, store.headers(), options.jobs):
                execute(pending, store, options, progress)
    return store, cells


def run(
    methods: Any = "all",
    tasks: Any = "moons",
    seeds: int | Sequence[int] = 5,
    *,
    protocol: str = "fair",
    preset: str = "fast",
    out: str | Path = "results",
    device: str = "auto",
    jobs: int = 1,
    timeout: float | None = None,
    memory: float | None = None,
    isolate: bool = False,
    backend: str = "loky",
    scheduler: str | None = None,
    rerun: str | None = None,
    data_dir: str | Path | None = None,
    plugins: Sequence[str] = (),
    quiet: bool = True,
) -> pd.DataFrame:
    """Run all methods on all tasks and seeds, as ``python -m harness run`` does. Stored results are not run again.

    Args:
        methods: a selection such as ``"outlier_*,self_confidence"``, a method such as ``harness.method("datainf")``, a
            class or function of a view, or a list of such.
        tasks: a selection such as ``"moons,digits"``, a task, a class, or a list of such.
        seeds: a number of seeds, or a list.
        protocol, preset, out, device, jobs, timeout, memory, isolate, backend, scheduler,
            rerun, data_dir, plugins: as on the command line.
        quiet: no progress on standard error.

    Returns:
        The tidy table of the whole results folder; see `load_results`.

    Raises:
        RequestError: the request cannot be done as asked.
    """
    plugins = [str(plugin) for plugin in plugins]
    for plugin in plugins:
        load_plugin(plugin)
    wanted, brought = selection(METHODS, methods)
    on, brought_too = selection(TASKS, tasks)
    request, options = asked(
        methods=wanted,
        tasks=on,
        seeds=seeds,
        protocol=protocol,
        preset=preset,
        device=device,
        jobs=jobs,
        timeout=timeout,
        memory=memory,
        isolate=isolate,
        backend=backend,
        scheduler=scheduler,
        data_dir=data_dir,
        plugins=(*plugins, *brought, *brought_too),
    )
    run_request(request, options, out, rerun, Progress(quiet))
    return load_results(out)


def find(
    data: Any,
    labels: Any = None,
    *,
    ignore: Sequence[str] = (),
    groups: str | None = None,
    method: str | None = None,
    compare: bool | str = False,
    seeds: int = 3,
    plugins: Sequence[str] = (),
    quiet: bool = True,
    **params: Any,
) -> pd.DataFrame:
    """Find label errors in your own data, as ``python -m harness find`` does.

    Args:
        data: a path or the name of a dataset on the Hugging Face hub, as on the command line; a pandas DataFrame; a
            ``datasets.Dataset``; a list of texts; or an array of features (n, d) or of uint8 images (n, h, w, 3).
        labels: a column's name, or the labels (n,).
        ignore, groups: columns that no model sees; a column whose equal values are judged by the same model.
        method: ranks the samples; None for confident learning in two rounds, or for the best method with ``compare``.
        compare: plant known errors in copies of the data and compare detectors on the copies: True for all methods, or
            a selection such as ``"knn_labels,self_confidence"``.
        seeds: copies per kind of planted error.
        plugins: as for `run`.
        quiet: no progress on standard error.
        params: of the task ``own``: ``folds``, ``model``, ``encoder``, ``pixels``, ``text_encoder``.

    Returns:
        All samples, the probably wrong ones first, and then by score: your own columns, then ``given``, ``suggested``
        (the most probable other class), ``probability`` (of that class), ``score`` and ``probably_wrong``. The index
        is the row number. ``frame.attrs`` has ``estimated_errors``, ``low`` and ``high`` (bounds), ``method``,
        ``pairs``, ``duplicates`` and ``notes``; with ``compare`` also ``compared`` and ``expected_precision``.

    Raises:
        RequestError: the data cannot be read as asked, or the method cannot score the data.
    """
    from harness.finding.ask import find_errors

    found = find_errors(
        data,
        labels,
        ignore=ignore,
        groups=groups,
        method=method,
        compare={True: "all", False: None}[compare] if isinstance(compare, bool) else compare,
        seeds=seeds,
        plugins=plugins,
        say=(lambda _: None) if quiet else (lambda what: print(what, file=sys.stderr)),
        **params,
    )
    return found.frame()
