"""``data``: bring a task's published files, check them, or say where they belong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.commands.options import add_data_dir, add_plugin
from harness.data.files import Download, data_folder, how_to_get, in_folder, states
from harness.errors import RequestError
from harness.selection.plugins import load_plugin
from harness.selection.registry import TASKS

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "data",
        help="fetch a task's data files, verify them, or say where they belong",
        description="Bring a task's published files, check them, or say where they belong.",
    )
    parser.add_argument(
        "action",
        choices=("fetch", "verify", "where"),
        help="fetch: download what is missing; verify: compare checksums; where: print the folder",
    )
    parser.add_argument("name", metavar="TASK", help="such as cifar10n")
    add_data_dir(parser)
    add_plugin(parser)


def main(args: argparse.Namespace) -> int:
    for plugin in args.plugin:
        load_plugin(plugin)
    with in_folder(args.data_dir, create=args.action == "fetch"):
        return run(args.action, args.name)


def run(action: str, name: str) -> int:
    """One of ``fetch``, ``verify``, ``where`` for a task; returns the exit code, 1 when `verify` finds a file wrong.

    Raises:
        RequestError: an unknown task, one without files, or a download that failed.
    """
    task: Any = TASKS.get(name)
    downloads: Sequence[Download] = task.downloads
    if not downloads:
        if not task.needs:
            raise RequestError(f"{name} needs no data files; run it as it is")
        if action == "fetch":
            raise RequestError(f"{name} has nothing to fetch: {task.needs}")
        if action == "verify":
            task().check()
            print(f"{data_folder()}: {name} has what it needs")
        else:
            print(f"{data_folder()}\n{task.needs}")
        return 0
    if action == "fetch":
        from harness.data.fetching import fetch

        print(fetch(downloads, lambda line: print(line, file=sys.stderr)))
        return 0
    listed = list(states(downloads))
    print(data_folder())
    for path, problem in listed:
        told = problem if action == "verify" else "is missing" if problem == "is missing" else ""
        print(f"  {path.relative_to(data_folder())}: {told or ('ok' if action == 'verify' else 'there')}")
    if any(problem for _, problem in listed):
        print(f"{name}: {how_to_get(name, downloads)}")
        return 1 if action == "verify" else 0
    return 0
