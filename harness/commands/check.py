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
    check = commands.add_parser(
        "check",
        help="conformance checks: is a method or task fit to be compared?",
        description="Run the conformance checks on one method or task. Exit code 0: all passed, 1: some failed.",
    )
    check.add_argument("what", metavar="NAME|FILE.py[:NAME]", help="a name with parameters, a file, or one of its")
    add_plugin(check, "the plug-in that brings NAME")
    add_data_dir(check)


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
    """Run and print one subject's checks; the number of failures."""
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
        print("  the rest needs scores and was not run")
    print("  " + ", ".join(f"{count} {word}" for word, count in counted.items()))
    return counted["failed"]
