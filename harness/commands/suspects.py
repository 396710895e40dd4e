"""``suspects``: the samples that a method finds most suspicious, as a list to look through."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_plugin, add_preset, add_protocol

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    suspects = commands.add_parser("suspects", help="the most suspicious samples of a result, by one method")
    suspects.add_argument("out", metavar="OUT", help="a results folder")
    suspects.add_argument("--method", required=True, metavar="NAME", help="whose scores, with parameters if need be")
    suspects.add_argument("--task", metavar="NAME", help="where OUT holds several, with parameters if need be")
    add_protocol(suspects, "where OUT holds both")
    add_preset(suspects, "where OUT holds several")
    suspects.add_argument("--seed", type=int, metavar="N", help="one seed (default: the first, or all if alike)")
    suspects.add_argument("--top", type=int, default=100, metavar="N", help="how many (default: %(default)s)")
    suspects.add_argument("--format", default="text", choices=("text", "csv"), help="default: %(default)s")
    suspects.add_argument("--output", metavar="PATH", help="a file instead of standard output")
    add_data_dir(suspects)
    add_plugin(suspects, "the plug-in of the task, to show labels")


def main(args: argparse.Namespace) -> int:
    from harness.commands.output import put
    from harness.data.files import in_folder
    from harness.errors import RequestError
    from harness.results.folder import Results
    from harness.results.suspects import Wanted, choose, suspects
    from harness.selection.plugins import load_plugin

    if args.top < 1:
        raise RequestError(f"--top {args.top} is not valid; give at least 1")
    for plugin in args.plugin:
        load_plugin(plugin)
    with in_folder(args.data_dir):
        wanted = Wanted(args.method, args.task, args.protocol, args.preset, args.seed)
        chosen = choose(Results.read(args.out), wanted)
        frame = suspects(chosen, args.top)
    print(chosen.title(len(frame)), file=sys.stderr)
    text = frame.to_csv(index=False) if args.format == "csv" else frame.to_string(index=False) + "\n"
    put(text, args.output)
    return 0
