"""Results go to standard output, or whole into a file."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.errors import RequestError
from harness.records.store import write_whole


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
