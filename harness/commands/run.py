"""``run``: cross methods with tasks and seeds, store the results, print the tables."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_plugin, add_preset, add_protocol
from harness.records.store import FAILURES, counts, some_cells
from harness.selection.plan import Cell

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="cross methods with tasks and seeds, store the results, print the tables",
        description="Cross methods with tasks and seeds. What is already stored in --out is not run again.",
        epilog="Selections: names, globs and 'all', separated by commas; name[parameter=value,...] sets parameters, "
        "-name leaves one out.",
    )
    run.add_argument("--methods", default="all", metavar="SELECTION", help="default: %(default)s")
    run.add_argument("--tasks", default="moons", metavar="SELECTION", help="default: %(default)s")
    run.add_argument(
        "--seeds", default="5", metavar="N|LIST", help="5 for seeds 0 to 4, or 0,3,7 (default: %(default)s)"
    )
    add_protocol(run, "fair, or paper: as the reference code did, quirk by quirk (default: fair)", "fair")
    add_preset(run, "size of data, model and training; full is the published size (default: fast)", "fast")
    run.add_argument("--out", default="results", metavar="FOLDER", help="results folder (default: %(default)s)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="(task, seed) groups at a time (default: 1)")
    run.add_argument("--backend", default="loky", choices=("loky", "dask"), help="of several jobs (default: loky)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler; without one, Dask starts workers here")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for training or scoring one cell")
    run.add_argument("--rerun", choices=("failed", "stale", "all"), help="run these again, though they are stored")
    add_data_dir(run)
    add_plugin(run, "bring methods or tasks: a .py file, FILE.py:NAME for one of its, or a module (repeatable)")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")


def main(args: argparse.Namespace) -> int:
    from harness.api import asked, planned, run_request
    from harness.commands.output import say_problems
    from harness.data.files import in_folder
    from harness.results.folder import Results
    from harness.running.progress import Progress
    from reports.markdown import tables

    request, options = asked(
        methods=args.methods,
        tasks=args.tasks,
        seeds=args.seeds,
        protocol=args.protocol,
        preset=args.preset,
        device=args.device,
        jobs=args.jobs,
        timeout=args.timeout,
        backend=args.backend,
        scheduler=args.scheduler,
        data_dir=args.data_dir,
        plugins=args.plugin,
        command=shlex.join(["python", "-m", "harness", *args.arguments]),
    )
    if args.dry_run:
        with in_folder(args.data_dir):
            return _dry_run(planned(request, options, args.rerun), args.out, args.rerun)
    store, cells = run_request(request, options, args.out, args.rerun, Progress())
    states = Counter(store.state(cell) for cell in cells)
    results = Results.read(args.out)
    asked_for = results.frame["slot"].isin([cell.slot for cell in cells])
    with in_folder(args.data_dir):
        print(tables(results.frame[asked_for], results.stale), end="")
    say_problems(results.problems)
    print(f"{counts(states)}. Results in {args.out}; full report: python -m harness report {args.out}", file=sys.stderr)
    if states["stale"]:
        told = some_cells(states["stale"])
        print(f"{told} (†) come from other code or data than this; --rerun stale makes them again", file=sys.stderr)
    failures = sum(states[status] for status in FAILURES)
    if failures:
        print(f"{some_cells(failures)} failed; --rerun failed tries them again", file=sys.stderr)
    return 1 if failures else 0


def _dry_run(cells: Sequence[Cell], out: str, rerun: str | None) -> int:
    from harness.records.store import Store, is_store
    from harness.running.execute import to_run

    pending = to_run(cells, Store(out), rerun) if is_store(out) else list(cells)
    for cell in pending:
        print(f"{cell.task_spec}\t{cell.method_spec}\tseed {cell.seed}\t{cell.spec.protocol}\t{cell.spec.preset}")
    print(f"{len(pending)} of {some_cells(len(cells))} would run", file=sys.stderr)
    return 0
