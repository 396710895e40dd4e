"""Writes results to standard output or to a file, and messages to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.kept_files import write_whole
from harness.errors import RequestError, without_controls
from harness.records.store import some_cells

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.folder import Results


def put(content: str | bytes, path: str | None) -> None:
    """Write the content to the file ``path``, or to standard output if ``path`` is None.

    Raises:
        RequestError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(_printable(content) if isinstance(content, str) else content.decode())
        return
    try:
        write_whole(Path(path), _printable(content).encode() if isinstance(content, str) else content)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}") from error


def _printable(text: str) -> str:
    """The text with a question mark for what no encoding knows, such as the bytes of an odd file name."""
    return text.encode(errors="replace").decode()


def plain_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would take for a formula."""
    import pandas as pd

    safe = frame.copy()
    for name, column in frame.items():
        if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
            formula = column.astype(str).str.match(r"[=+\-@\t\r]") & column.map(lambda value: isinstance(value, str))
            safe[name] = column.where(~formula, "'" + column.astype(str))
    return safe


def say_problems(problems: Iterable[str]) -> None:
    """Name damaged files on standard error, each once."""
    for problem in dict.fromkeys(problems):
        print(without_controls(problem), file=sys.stderr)


def stale_text(results: Results) -> str:
    """How many cells are stale, and the command that helps."""
    told = f"{some_cells(len(results.stale))} of {results.path}"
    return f"{told} come from other code or data than this; `run --out {results.path} --rerun stale` makes them again"


def say_unknown(results: Results) -> None:
    """Name the methods and tasks that are not loaded here. Whether their results are stale is unknown."""
    if results.unknown:
        names = ", ".join(results.unknown)
        print(f"not loaded here, so results may be stale: {names}; load the file by --plugin FILE", file=sys.stderr)


def say_stale(results: Results) -> bool:
    """Print how many cells are stale and which may be stale; return whether there are such cells."""
    if results.stale:
        print(stale_text(results), file=sys.stderr)
    say_unknown(results)
    return bool(results.stale or results.unknown)
