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
    parser = commands.add_parser(
        "run",
        help="run methods on tasks, store the results, print the tables",
        description="Run every selected method on every selected task and seed. Results that --out holds already are "
        "not computed again.",
        epilog="SELECTION: names, globs and `all`, separated by commas. name[parameter=value,...] sets parameters, "
        "name[parameter=a|b] runs both values, and -name leaves a name out. `python -m harness list` prints all names.",
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--methods", default="all", metavar="SELECTION", help="methods (default: all)")
    what.add_argument("--tasks", default="moons", metavar="SELECTION", help="tasks (default: moons)")
    what.add_argument(
        "--seeds", default="5", metavar="N|LIST", help="a number of seeds, or a list such as 0,3,7 (default: 5)"
    )
    add_protocol(
        what,
        "how methods are run: fair, or paper, which follows the published code in every quirk (default: fair)",
        "fair",
    )
    add_preset(what, "size of data, model and training; full is the published size (default: fast)", "fast")
    where = parser.add_argument_group("data and results")
    where.add_argument("--out", default="results", metavar="FOLDER", help="folder of the results (default: results)")
    add_data_dir(where)
    add_plugin(where)
    where.add_argument(
        "--rerun",
        choices=("failed", "stale", "all"),
        help="compute stored cells again: failed ones, those of other code (stale), or all",
    )
    where.add_argument(
        "--wide", action="store_true", help="print the tables with all columns, as markdown, instead of the narrow ones"
    )
    where.add_argument("--dry-run", action="store_true", help="list the cells that would run, and run nothing")
    how = parser.add_argument_group("how to run")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    how.add_argument("--jobs", type=int, default=1, metavar="N", help="number of processes (default: 1)")
    how.add_argument("--timeout", type=float, metavar="SECONDS", help="end a training or scoring that takes longer")
    how.add_argument("--memory", type=float, metavar="GIB", help="of main memory that one process may take")
    how.add_argument(
        "--isolate",
        action=argparse.BooleanOptionalAction,
        help="run cells in a process of their own, which ends when a plug-in leaves something behind (default: yes; "
        "with --backend dask: no)",
    )
    how.add_argument(
        "--backend", default="loky", choices=("loky", "dask"), help="what starts processes (default: loky)"
    )
    how.add_argument("--scheduler", metavar="ADDRESS", help="of Dask; without it, Dask starts workers on this machine")


def main(args: argparse.Namespace) -> int:
    from harness.api import asked, planned, run_request
    from harness.commands.printing import say_problems
    from harness.data.files import in_folder
    from harness.results.folder import Results
    from harness.running.progress import Progress
    from reports.markdown import tables
    from reports.terminal import terminal_tables

    request, options = asked(
        methods=args.methods,
        tasks=args.tasks,
        seeds=args.seeds,
        protocol=args.protocol,
        preset=args.preset,
        device=args.device,
        jobs=args.jobs,
        timeout=args.timeout,
        memory=args.memory,
        isolate=args.backend != "dask" if args.isolate is None else args.isolate,
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
        made = results.frame[asked_for]
        if args.wide:
            print(tables(made, results.stale), end="")
        else:
            print(terminal_tables(made, results.stale, colour=sys.stdout.isatty()), end="")
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
