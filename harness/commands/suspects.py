"""``suspects``: the samples that a method finds most suspicious, as a list to look through."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_output, add_plugin, add_which

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "suspects",
        help="list the samples that a method finds most suspicious",
        description="List the training samples that one method finds most suspicious, with their labels where the data "
        "is at hand.",
    )
    parser.add_argument("out", metavar="OUT", help="a results folder")
    add_which(parser, "the first, or all where they have the same samples")
    how = parser.add_argument_group("how")
    how.add_argument("--top", type=int, default=100, metavar="N", help="length of the list (default: 100)")
    how.add_argument("--format", default="text", choices=("text", "csv"), help="default: text")
    add_output(how, "the list")
    add_data_dir(how)
    add_plugin(how)


def main(args: argparse.Namespace) -> int:
    from harness.commands.printing import put
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
