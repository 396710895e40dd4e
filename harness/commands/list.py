"""``list``: prints the available methods, tasks and protocols."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from harness.commands.options import add_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "list",
        help="print all methods, tasks and protocols",
        description="Print all methods, tasks and protocols, with parameters, sources and what each method looks at.",
    )
    parser.add_argument("what", nargs="?", choices=("methods", "tasks", "protocols"), help="print these alone")
    add_plugin(parser)


def main(args: argparse.Namespace) -> int:
    from harness.selection.listing import listing, wrapped

    text = listing(args.what, args.plugin)
    print(wrapped(text, max(40, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else text)
    return 0
