"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]

DATA_FOLDER = "folder of data files (default: HARNESS_DATA, or the user's cache)"


def add_plugin(parser: argparse.ArgumentParser, why: str) -> None:
    """``--plugin``, repeatable."""
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE", help=why)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """``--data-dir``."""
    parser.add_argument("--data-dir", metavar="FOLDER", help=DATA_FOLDER)
