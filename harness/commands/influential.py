"""``influential``: which training samples a method finds influential for a test sample, with their texts."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_output, add_plugin, add_which

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "influential",
        help="list the training samples that influence a test sample",
        description="List the training samples that one method finds most and least influential for test samples, with "
        "their texts.",
    )
    parser.add_argument("out", metavar="OUT", help="a results folder of an attribution task")
    add_which(parser, "the first")
    how = parser.add_argument_group("how")
    how.add_argument("--test", default="0", metavar="N,N,...", help="positions of test samples (default: 0)")
    how.add_argument("--top", type=int, default=3, metavar="N", help="length of each list (default: 3)")
    add_output(how, "the lists")
    add_data_dir(how)
    add_plugin(how)


def main(args: argparse.Namespace) -> int:
    from harness.commands.printing import put
    from harness.data.files import in_folder
    from harness.errors import RequestError
    from harness.results.folder import Results
    from harness.results.influential import influential
    from harness.results.suspects import Wanted, choose
    from harness.selection.plugins import load_plugin

    if args.top < 1:
        raise RequestError(f"--top {args.top} is not valid; give at least 1")
    try:
        tests = [int(number) for number in args.test.split(",")]
    except ValueError as error:
        raise RequestError(f"--test {args.test} is not valid; give numbers of test samples, such as 0,37") from error
    for plugin in args.plugin:
        load_plugin(plugin)
    with in_folder(args.data_dir):
        wanted = Wanted(args.method, args.task, args.protocol, args.preset, args.seed)
        chosen = choose(Results.read(args.out), wanted, attributions=True)
        text = influential(chosen, tests, args.top)
    first = chosen.records[0]
    where = f"protocol {first.protocol}, preset {first.preset}, seed {first.seed}"
    print(f"{first.task_spec} by {first.method_spec}, {where}", file=sys.stderr)
    put(text, args.output)
    return 0
