"""Published data files: their folder, their checksums, and the messages about missing files."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RequestError

VARIABLE = "HARNESS_DATA"


@dataclass(frozen=True)
class Download:
    """A file, or a ``.tar.gz`` archive of files, as its authors publish it.

    Args:
        url: the address of the file or archive.
        md5: MD5 checksum of the downloaded file.
        size: size of the download in bytes.
        files: MD5 of each resulting file, by path below the data folder. These paths are also the names of an
            archive's members.
    """

    url: str
    md5: str
    size: int
    files: Mapping[str, str]

    @property
    def is_archive(self) -> bool:
        return self.url.endswith(".tar.gz")


def data_folder() -> Path:
    """The folder of data: the variable ``HARNESS_DATA``, which ``--data-dir`` sets, or the user's cache."""
    folder = os.environ.get(VARIABLE)
    if folder:
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("influence-harness"))


@contextmanager
def in_folder(folder: str | None, *, create: bool = False) -> Iterator[None]:
    """Use ``--data-dir`` as the data folder inside the ``with`` block.

    Args:
        create: the folder need not exist yet.

    Raises:
        RequestError: there is no such folder.
    """
    if folder is None:
        yield
        return
    if not (create or os.path.isdir(folder)):
        raise RequestError(f"--data-dir {folder} is not there; give the folder that holds the data files")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = os.path.abspath(folder)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def how_to_get(name: str, downloads: Sequence[Download]) -> str:
    """The two ways to get a task's data, as the text that follows "… is missing; "."""
    size = sum(download.size for download in downloads) / 2**20
    whats = [
        f"{Path(next(iter(d.files))).parts[0]} ({'unpacked ' if d.is_archive else ''}from {d.url})" for d in downloads
    ]
    return (
        f"`python -m harness data fetch {name}` downloads it ({size:.0f} MiB), or put {' and '.join(whats)} in a "
        f"folder and give that folder by --data-dir or {VARIABLE}"
    )


def states(downloads: Sequence[Download]) -> Iterator[tuple[Path, str]]:
    """Every file's path and its problem: an empty text, ``is missing``, or how the file differs."""
    folder = data_folder()
    for download in downloads:
        for name, expected in download.files.items():
            path = folder / name
            try:
                stat = path.stat()
                actual = md5_of(path, stat.st_size, stat.st_mtime_ns)
            except FileNotFoundError:
                yield path, "is missing"
            except OSError as error:
                yield path, f"cannot be read ({error.strerror})"
            else:
                differs = f"is damaged or another release: its MD5 is {actual}, the official file's {expected}"
                yield path, "" if actual == expected else differs


def require(name: str, downloads: Sequence[Download], unchecked: Collection[str] = ()) -> None:
    """Check that a task's files are there and are the official ones.

    Args:
        unchecked: files that may be missing or differ, by path below the data folder.

    Raises:
        RequestError: a file is missing or differs; the message names the first such file and how to get it.
    """
    for path, problem in states(downloads):
        if problem and path not in {data_folder() / name for name in unchecked}:
            raise RequestError(f"{name} needs its data: {path} {problem}; {how_to_get(name, downloads)}")


@functools.lru_cache
def md5_of(path: Path, size: int, mtime_ns: int) -> str:
    """A file's MD5, computed again only if the file's size or modification time changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
