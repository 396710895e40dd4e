"""Results go to standard output, or whole into a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.records.store import some_cells, write_whole

if TYPE_CHECKING:
    from harness.results.folder import Results


def put(content: str | bytes, path: str | None) -> None:
    """Write to a file, or a text to standard output where none is named.

    Raises:
        RequestError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(content if isinstance(content, str) else content.decode())
        return
    try:
        write_whole(Path(path), content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}") from error


def say_problems(problems: Iterable[str]) -> None:
    """Name damaged files on standard error, each once."""
    for problem in dict.fromkeys(problems):
        print(problem, file=sys.stderr)


def stale_text(results: Results) -> str:
    """How many cells are stale, and the command that helps."""
    told = f"{some_cells(len(results.stale))} of {results.path}"
    return f"{told} come from other code or data than this; `run --out {results.path} --rerun stale` makes them again"


def say_unknown(results: Results) -> None:
    """Name methods and tasks of whose results nobody can tell here whether they are stale."""
    if results.unknown:
        names = ", ".join(results.unknown)
        print(f"not known here, so perhaps stale: {names}; give their file by --plugin FILE", file=sys.stderr)


def say_stale(results: Results) -> bool:
    """Say which cells are stale, or may be; whether there are any."""
    if results.stale:
        print(stale_text(results), file=sys.stderr)
    say_unknown(results)
    return bool(results.stale or results.unknown)
