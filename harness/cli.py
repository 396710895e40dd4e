"""The command line: ``python -m harness list | run | status | report``.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 fine, 1 something in the run
failed, 2 the request was wrong (one sentence), 130 interrupted with all finished cells kept.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from harness.errors import RequestError, did_you_mean
from harness.plan import PRESETS, PROTOCOLS, Cell
from harness.store import FAILURES

EXAMPLES = """examples:
  python -m harness run                                                  all methods on moons, a quarter of a minute
  python -m harness run --methods all --tasks moons,blobs,digits --seeds 5 --protocol paper
  python -m harness run --methods 'outlier_*,datainf[damping=0.01]' --tasks 'digits[noise=pair,rate=0.2]'
  python -m harness data fetch cifar10n
  python -m harness run --methods all --tasks 'cifar10n[noise=worst]' --preset smoke
  python -m harness run --methods none,outlier_iforest --tasks 'digits[budget=0|0.05|0.1]'
  python -m harness report results --output report.md
  python -m harness report results --table 1
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence and exits with 2."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "choose from" in message:
            given = message.split("invalid choice: ")[1].split(" (")[0].strip("'")
            choices = [part.strip(" '") for part in message.split("choose from ")[1].rstrip(")").split(",")]
            message = message.split(" (")[0] + did_you_mean(given, choices) + "; choose from " + ", ".join(choices)
        self.exit(2, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """The argument parser with all subcommands."""
    parser = _Parser(
        prog="python -m harness",
        description="Compare methods that find harmful training samples, on the same models, data and seeds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    folder = "folder of data files (default: HARNESS_DATA, or the user's cache)"
    listing = commands.add_parser("list", help="what there is: methods, tasks, protocols")
    listing.add_argument(
        "what", nargs="?", choices=("methods", "tasks", "protocols"), help="one of them (default: all)"
    )
    listing.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help="include a plug-in")

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
    run.add_argument(
        "--protocol",
        default="fair",
        choices=PROTOCOLS,
        help="fair, or paper: as the reference code did, quirk by quirk (default: %(default)s)",
    )
    run.add_argument("--preset", default="fast", choices=PRESETS, help="size of the tasks (default: %(default)s)")
    run.add_argument("--out", default="results", metavar="FOLDER", help="results folder (default: %(default)s)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="(task, seed) groups at a time (default: 1)")
    run.add_argument("--backend", default="loky", choices=("loky", "dask"), help="of several jobs (default: loky)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler; without one, Dask starts workers here")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for training or scoring one cell")
    run.add_argument("--rerun", choices=("failed", "stale", "all"), help="run these again, though they are stored")
    run.add_argument("--data-dir", metavar="FOLDER", help=folder)
    run.add_argument(
        "--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help="bring methods or tasks (repeatable)"
    )
    run.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")

    status = commands.add_parser("status", help="cells of a results folder: done, failed, missing, stale")
    status.add_argument("out", metavar="OUT")
    status.add_argument(
        "--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help="plug-ins it was run with"
    )

    report = commands.add_parser("report", help="tables and figures from a results folder")
    report.add_argument("out", metavar="OUT")
    one = report.add_mutually_exclusive_group()
    one.add_argument("--table", metavar="N", help="one of the paper's tables alone: 1, 2, 4, 5, 7, 8 or 9")
    one.add_argument("--figure", metavar="N", help="one of the paper's figures: 2 (needs the data) or 5")
    report.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help="to tell stale results")
    report.add_argument("--format", default="md", choices=("md", "csv"), help="md: tables; csv: the tidy table")
    report.add_argument("--output", metavar="PATH", help="a file instead of standard output (figures: figureN.png)")
    report.add_argument("--data-dir", metavar="FOLDER", help=folder)

    data = commands.add_parser("data", help="fetch a task's data files, verify them, or say where they belong")
    data.add_argument("action", choices=("fetch", "verify", "where"), help="fetch: download, with checksum and resume")
    data.add_argument("name", metavar="TASK")
    data.add_argument("--data-dir", metavar="FOLDER", help=folder)
    data.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help="the plug-in of the task")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # λ and × on a terminal that has neither
    args = build_parser().parse_args(arguments)
    try:
        if args.command == "run":
            return _run(args, arguments)
        return {"list": _list, "status": _status, "report": _report, "data": _data}[args.command](args)
    except RequestError as error:
        print(f"python -m harness {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; all finished cells are kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _list(args: argparse.Namespace) -> int:
    from harness.listing import listing

    print(listing(args.what, args.plugin))
    return 0


def _run(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    from harness.api import absolute, planned, run_request
    from harness.execute import Options
    from harness.labels import relabelled
    from harness.progress import Progress
    from harness.requests import Request, parse_seeds
    from harness.results import load_results
    from harness.staleness import stale_keys
    from reports.markdown import tables

    request = Request(
        args.methods,
        args.tasks,
        parse_seeds(args.seeds),
        args.protocol,
        args.preset,
        tuple(map(absolute, args.plugin)),
        shlex.join(["python", "-m", "harness", *arguments]),
    )
    options = Options(
        args.device,
        args.jobs,
        args.timeout,
        args.backend,
        args.scheduler,
        tuple(map(absolute, args.plugin)),
        args.data_dir,
    )
    if args.dry_run:
        return _dry_run(planned(request, options, args.rerun), args.out, args.rerun)
    store, cells = run_request(request, options, args.out, args.rerun, Progress())
    states = Counter(store.state(cell) for cell in cells)
    frame = load_results(args.out)
    frame = frame[frame["slot"].isin([cell.slot for cell in cells])]
    print(tables(relabelled(frame), stale_keys(frame)), end="")
    print(
        f"{_counts(states)}. Results in {args.out}; full report: python -m harness report {args.out}", file=sys.stderr
    )
    if states["stale"]:
        print(f"{states['stale']} cells come from other code than this (†); --rerun stale redoes them", file=sys.stderr)
    failures = sum(states[status] for status in FAILURES)
    if failures:
        print(f"{failures} cells failed; --rerun failed tries them again", file=sys.stderr)
    return 1 if failures else 0


def _dry_run(cells: Sequence[Cell], out: str, rerun: str | None) -> int:
    from harness.execute import to_run
    from harness.store import Store, is_store

    pending = to_run(cells, Store(out), rerun) if is_store(out) else list(cells)
    for cell in pending:
        print(f"{cell.task_label}\t{cell.method_label}\tseed {cell.seed}\t{cell.spec.protocol}\t{cell.spec.preset}")
    print(f"{len(pending)} of {len(cells)} cells would run", file=sys.stderr)
    return 0


def _status(args: argparse.Namespace) -> int:
    from harness.registry import load_plugin
    from harness.requests import remembered
    from harness.store import Store

    store = Store(args.out)
    for plugin in args.plugin:  # never those that the folder names: it may come from anyone
        load_plugin(plugin)
    requests = remembered(store)
    cells: dict[str, Cell] = {}
    for request in requests:
        print(request.command or f"harness.run({request.methods!r}, {request.tasks!r}, …)")
        try:
            planned = request.plan()
        except RequestError as error:
            hint = f" (it was run with --plugin {' --plugin '.join(request.plugins)})" if request.plugins else ""
            print(f"  cannot be planned here: {error}{hint}")
            continue
        print(f"  {_counts(Counter(store.state(cell) for cell in planned))}")
        cells |= {cell.slot: cell for cell in planned}
    for cell in cells.values():
        record = store.find(cell)
        if record is not None and record.status in (*FAILURES, "skipped"):
            print(f"  {record.status}: {cell.task_label} × {cell.method_label} seed {cell.seed}: {record.error}")
    for problem in dict.fromkeys(store.problems):
        print(f"  damaged: {problem}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from harness import report_command
    from harness.data_files import in_folder

    with in_folder(args.data_dir):
        report_command.run(args.out, args.format, args.table, args.figure, args.output, args.plugin)
    return 0


def _data(args: argparse.Namespace) -> int:
    from harness import data_command
    from harness.data_files import in_folder
    from harness.registry import load_plugin

    for plugin in args.plugin:
        load_plugin(plugin)
    with in_folder(args.data_dir, create=args.action == "fetch"):
        return data_command.run(args.action, args.name)


def _counts(states: Counter[str]) -> str:
    total = sum(states.values())
    return f"{total} cells: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
