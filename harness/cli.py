"""The command line: ``python -m harness COMMAND``; the commands are the modules of `harness.commands`.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 fine, 1 something in the run
failed or got worse, 2 the request was wrong (one sentence), 130 interrupted with all finished cells kept.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from harness.errors import RequestError, did_you_mean, note, without_controls
from harness.packages import own

COMMANDS = (
    "list",
    "run",
    "status",
    "report",
    "find",
    "suspects",
    "influential",
    "compare",
    "baseline",
    "check",
    "new",
    "data",
)

EXAMPLES = """compare detectors:
  python -m harness run                    all methods on moons, under a minute
  python -m harness run --tasks moons,blobs,digits --seeds 5 --protocol paper
  python -m harness run --methods 'datainf[damping=1]' --tasks digits
  python -m harness run --methods none,random --tasks 'digits[budget=0|0.1]'
  python -m harness data fetch cifar10n
  python -m harness run --tasks 'cifar10n[noise=worst]' --preset smoke
  python -m harness run --tasks prompts_math --preset smoke --out prompts
  python -m harness report results --output report.md
  python -m harness report results --figure inspection --output found.pdf

test a new detector:
  python -m harness run --plugin my_detector.py --methods my_detector,outlier_*
  python -m harness check my_detector.py
  python -m harness baseline write results baseline.json
  python -m harness compare baseline.json results

find errors in your own data:
  python -m harness find reviews.csv --labels sentiment
  python -m harness find photos/ --compare --format html --output errors.html
"""


START = """influence-harness compares methods that find harmful training samples.
What would you like to do?

  Find label errors in your own data:
    python -m harness find reviews.csv --labels sentiment
    python -m harness find photos/ --format html --output errors.html

  Compare detectors on the same models, data and seeds:
    python -m harness run                       all methods on half moons
    python -m harness report results            the whole report of the last run

  Test a detector of your own:
    python -m harness new method my_detector    a package to start from
    python -m harness check my_detector.py      conformance checks

  See what there is:
    python -m harness list
    python -m harness --help
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence and exits with 2."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        odd = next((argument for argument in args or () if argument.endswith("=--")), None)
        if odd is not None:  # argparse makes an empty list of it
            self.error(f"{odd} gives no value")
        return super().parse_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and value not in choices:
            near = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{near}; choose from {', '.join(choices)}")

    def error(self, message: str) -> NoReturn:
        _, unrecognised, words = message.partition("unrecognized arguments: ")
        if unrecognised and not words.startswith("-"):
            message += "; join names by commas, without spaces: --methods aum,datainf"
        self.exit(2, f"{self.prog}: {message}\n")


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from harness.selection.versions import source_commit

        print(f"influence-harness {source_commit()}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The argument parser with all subcommands."""
    parser = _Parser(
        prog="python -m harness",
        description="Compare methods that find harmful training samples, and find label errors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="the version, or a clone's commit, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"harness.commands.{name}").add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # λ and × on a terminal that has neither
    if not arguments:
        print(START, end="")
        return 0
    args = build_parser().parse_args(arguments)
    args.arguments = arguments
    plain, warnings.formatwarning = warnings.formatwarning, note
    before = _on_termination(_terminate)
    try:
        own("reports")
        code: int = import_module(f"harness.commands.{args.command}").main(args)
        return code
    except RequestError as error:
        print(f"python -m harness {args.command}: {without_controls(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        print(f"{what}; all finished cells are kept, the same command goes on", file=sys.stderr)
        return code
    except BrokenPipeError:  # the reader of our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        named = str(error.filename)
        print(f"python -m harness {args.command}: {named[:40]}… is too long for a file's name", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = plain
        _on_termination(before)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems and containers send before they kill. It ends a run as an interruption does."""


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _on_termination(handler: Any) -> Any:
    """Set what SIGTERM does; returns what it did before. Only a process's main thread can do so."""
    if threading.current_thread() is not threading.main_thread() or handler is None:
        return None
    return signal.signal(signal.SIGTERM, handler)
