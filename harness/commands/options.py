"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.selection.plan import PRESET_ALIASES, PRESETS, PROTOCOLS

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[Any]
    Options: TypeAlias = argparse.ArgumentParser | argparse._ArgumentGroup

DATA_FOLDER = "folder with the data files (default: the variable HARNESS_DATA, or the user's cache)"
PLUGIN = "load methods and tasks from a .py file, from FILE.py:NAME, or from a module; may be repeated"


def add_plugin(options: Options) -> None:
    """``--plugin``, repeatable."""
    options.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help=PLUGIN)


def add_data_dir(options: Options) -> None:
    """``--data-dir``."""
    options.add_argument("--data-dir", metavar="FOLDER", help=DATA_FOLDER)


def add_output(options: Options, what: str = "the text") -> None:
    """``--output``."""
    options.add_argument("--output", metavar="PATH", help=f"write {what} to a file instead of standard output")


def add_protocol(options: Options, why: str, default: str | None = None) -> None:
    """``--protocol``."""
    options.add_argument("--protocol", default=default, choices=PROTOCOLS, help=why)


def add_preset(options: Options, why: str, default: str | None = None) -> None:
    """``--preset``; former preset names are accepted too."""
    options.add_argument("--preset", default=default, type=_preset, choices=PRESETS, help=why)


def add_which(parser: argparse.ArgumentParser, first: str) -> None:
    """The options that pick one result out of a folder."""
    which = parser.add_argument_group("which result")
    which.add_argument(
        "--method", required=True, metavar="METHOD", help="the method: a name, or a name with parameters (required)"
    )
    which.add_argument("--task", metavar="TASK", help="the task, needed where OUT holds results of several tasks")
    add_protocol(which, "the protocol, needed where OUT holds both")
    add_preset(which, "the preset, needed where OUT holds several")
    which.add_argument("--seed", type=int, metavar="N", help=f"the seed (default: {first})")


def _preset(name: str) -> str:
    return PRESET_ALIASES.get(name, name)
