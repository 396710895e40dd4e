"""``check``: the conformance checks on methods and tasks, with what failed, why it matters and how to mend it."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.commands.options import add_data_dir, add_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands

WORDS = {"expected": "expected to fail", "unexpected": "FAILED", "failed": "FAILED"}


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="tell whether a method or task is fit to be compared",
        description="Run the conformance checks on methods or tasks. Each failure is printed with why it matters and "
        "how to mend it. Exit code 0: all passed. 1: some failed.",
    )
    parser.add_argument(
        "what",
        metavar="METHOD|TASK|FILE",
        help="a registered name such as datainf[damping=0.01], a file my.py, or one class or function of a file, "
        "my.py:Name",
    )
    add_data_dir(parser)
    add_plugin(parser)


def main(args: argparse.Namespace) -> int:
    from harness.data.files import in_folder
    from harness.selection.plugins import load_plugin
    from harness.testing import subjects

    for plugin in args.plugin:
        load_plugin(plugin)
    with in_folder(args.data_dir):
        checked = subjects(args.what)
        for subject in checked:
            subject.check()
        failures = sum(_checked(subject) for subject in checked)
    return 1 if failures else 0


def _checked(subject: Any) -> int:
    """Run and print one subject's checks; return the number of failures."""
    from harness.conformance.check import outcome
    from harness.interfaces.params import values_of
    from harness.interfaces.spec import format_term
    from harness.testing import checks_of, expected_of

    print(format_term(subject.name, values_of(subject)))
    counted: Counter[str] = Counter()
    expected = expected_of(subject)
    silent = False
    for check in checks_of(subject):
        if silent and check.name != "parameters":
            counted["skipped"] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = outcome(check, subject, expected)
        silent = silent or (check.name == "shape" and result.status == "failed")
        counted["failed" if result.bad else result.status] += 1
        word = WORDS.get(result.status, result.status)
        print(f"  {word:<8} {check.name}" + (f": {result.fault}" if result.fault else ""))
        if result.bad:
            print(f"           why it matters: {check.why}\n           mend: {result.mend}")
        sys.stdout.flush()
    if silent:
        print("  the other checks need scores and were not run")
    print("  " + ", ".join(f"{count} {word}" for word, count in counted.items()))
    return counted["failed"]
