"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from harness.selection.plan import PRESET_ALIASES, PRESETS, PROTOCOLS

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]

DATA_FOLDER = "folder of data files (default: HARNESS_DATA, or the user's cache)"


def add_plugin(parser: argparse.ArgumentParser, why: str) -> None:
    """``--plugin``, repeatable."""
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help=why)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """``--data-dir``."""
    parser.add_argument("--data-dir", metavar="FOLDER", help=DATA_FOLDER)


def add_protocol(parser: argparse.ArgumentParser, why: str, default: str | None = None) -> None:
    """``--protocol``."""
    parser.add_argument("--protocol", default=default, choices=PROTOCOLS, help=why)


def add_preset(parser: argparse.ArgumentParser, why: str, default: str | None = None) -> None:
    """``--preset``; former names are taken, too."""
    parser.add_argument("--preset", default=default, type=_preset, choices=PRESETS, help=why)


def _preset(name: str) -> str:
    return PRESET_ALIASES.get(name, name)
