"""``list``: what there is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.commands.options import add_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("list", help="what there is: methods, tasks, protocols")
    parser.add_argument("what", nargs="?", choices=("methods", "tasks", "protocols"), help="one of them (default: all)")
    add_plugin(parser, "include a plug-in")


def main(args: argparse.Namespace) -> int:
    from harness.selection.listing import listing

    print(listing(args.what, args.plugin))
    return 0
