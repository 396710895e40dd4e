"""``status``: what a results folder holds and lacks."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_plugin
from harness.errors import RequestError, without_controls
from harness.records.store import FAILURES, counts

if TYPE_CHECKING:
    from harness.commands.options import Commands
    from harness.selection.plan import Cell


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "status",
        help="count the cells of a results folder: ok, skipped, failed, missing, stale",
        description="List the commands that made a results folder and count its cells: ok, skipped, failed, missing.",
    )
    parser.add_argument("out", metavar="OUT", help="a results folder")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="delete what interrupted runs left behind over a minute ago: half-written files, scores without record",
    )
    add_data_dir(parser)
    add_plugin(parser)


def main(args: argparse.Namespace) -> int:
    from harness.data.files import in_folder

    with in_folder(args.data_dir):
        return _status(args)


def _status(args: argparse.Namespace) -> int:
    from harness.records.leftovers import clear, leftovers
    from harness.records.requests import remembered
    from harness.records.store import Record, Store, state_of
    from harness.selection.plugins import load_plugin

    store = Store(args.out)
    for plugin in args.plugin:  # never plugins that the folder names: the folder may come from anyone
        load_plugin(plugin)
    requests = remembered(store)
    cells: dict[str, Cell] = {}
    found: dict[str, Record | None] = {}
    for request in requests:
        print(request.command or f"harness.run({request.methods!r}, {request.tasks!r}, …)")
        try:
            planned = request.plan()
        except RequestError as error:
            hint = f" (it was run with --plugin {' --plugin '.join(request.plugins)})" if request.plugins else ""
            print(f"  cannot be planned here: {error}{hint}")
            continue
        found |= {cell.slot: store.find(cell) for cell in planned if cell.slot not in found}
        print(f"  {counts(Counter(state_of(found[cell.slot], cell) for cell in planned))}")
        cells |= {cell.slot: cell for cell in planned}
    said: dict[tuple[str, str, str, str], list[int]] = {}
    for slot, cell in cells.items():
        record = found[slot]
        if record is not None and record.status in (*FAILURES, "skipped"):
            told = without_controls(record.error)
            said.setdefault((record.status, cell.task_spec, cell.method_spec, told), []).append(cell.seed)
    for (status, task, method, told), seeds in said.items():
        which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        print(f"  {status}: {task} × {method} {which}: {told}")
    for problem in dict.fromkeys(store.problems):
        print(f"  damaged: {without_controls(problem)}")
    left = leftovers(args.out)
    if left and args.repair:
        print(f"  deleted {clear(left)} files that interrupted runs left behind")
    elif args.repair:
        print("  nothing to repair")
    elif left:
        print(f"  {len(left)} files that interrupted runs left behind; `status {args.out} --repair` deletes them")
    return 0
