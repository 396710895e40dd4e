"""``new``: a small package to start a method or task from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "new",
        help="write a small package for a new method or task, with tests and CI",
        description="Write a small package for a new method or task, with a test, the conformance checks and CI.",
    )
    parser.add_argument("kind", choices=("method", "task"), help="what the package holds")
    parser.add_argument("name", metavar="NAME", help="a lower-case word, such as my_detector")
    parser.add_argument("--output", metavar="FOLDER", help="folder of the package (default: NAME with hyphens)")


def main(args: argparse.Namespace) -> int:
    from harness.templates import folder_of, new

    written = new(args.kind, args.name, args.output)
    folder = args.output or folder_of(args.kind, args.name)
    for path in written:
        print(path)
    print(f"\nNext: cd {folder} && pip install -e '.[test]' && pytest && python -m harness check {args.name}")
    return 0
