"""Downloading published data: with checksums, progress and resume, unpacked member by member."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from harness.data.files import Download, data_folder, states
from harness.errors import RequestError

PIECE = 1 << 16
SECONDS_OF_SILENCE = 30


def fetch(downloads: Sequence[Download], say: Callable[[str], None]) -> Path:
    """Download into the data folder every file that is missing or has a wrong checksum.

    Args:
        say: called with one line of text for each step.

    Returns:
        The data folder.

    Raises:
        RequestError: there is no network, no space or no permission, or a checksum differs. The downloaded part of an
            interrupted file is kept, and the next call continues the download.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # `say` reports the download instead
    folder = data_folder()
    what = "the data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for download in downloads:
            if not any(problem for _, problem in states([download])):
                say(f"{', '.join(download.files)}: there already")
                continue
            what = download.url.rsplit("/", 1)[1]
            say(f"{what} from {download.url}")
            partial = folder / "downloads" / f"{what}.part"
            got = Path(
                pooch.retrieve(
                    download.url,
                    f"md5:{download.md5}",
                    fname=what,
                    path=partial.parent,
                    downloader=_Resuming(partial),
                )
            )
            (_unpack if download.is_archive else _place)(got, download, folder)
            got.unlink(missing_ok=True)
    except (requests.RequestException, OSError, ValueError, tarfile.TarError) as error:
        raise RequestError(f"{what} cannot be fetched into {folder}: {error}") from error
    with suppress(OSError):
        (folder / "downloads").rmdir()  # unless another download waits there to be resumed
    return folder


class _Resuming:
    """A downloader for pooch that continues an interrupted download, if the server allows resuming.

    Args:
        partial: the file that keeps the downloaded part; removed when the download is complete.
    """

    def __init__(self, partial: Path) -> None:
        self.partial = partial

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        import requests
        from tqdm import tqdm

        have = self.partial.stat().st_size if self.partial.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=SECONDS_OF_SILENCE) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:  # file complete or too long
                answer.close()
            else:
                answer.raise_for_status()
                resumed = answer.status_code == requests.codes.partial_content
                rest = int(answer.headers.get("content-length", 0))
                done = have if resumed else 0
                with (
                    self.partial.open("ab" if resumed else "wb") as file,
                    tqdm(total=done + rest or None, initial=done, unit="B", unit_scale=True, desc=url) as bar,
                ):
                    try:
                        for piece in answer.iter_content(PIECE):
                            file.write(piece)
                            bar.update(len(piece))
                        whole = not rest or file.tell() >= done + rest
                    except requests.RequestException:
                        whole = False
                if not whole:
                    raise requests.ConnectionError("the transfer broke off; the same command goes on from there")
        if hasattr(output_file, "write"):
            with self.partial.open("rb") as file:
                shutil.copyfileobj(file, output_file)
            self.partial.unlink()
        else:
            os.replace(self.partial, output_file)


def _place(got: Path, download: Download, folder: Path) -> None:
    for name, expected in download.files.items():
        with got.open("rb") as file:
            _write(file, folder / name, expected)


def _unpack(got: Path, download: Download, folder: Path) -> None:
    """Unpack only the expected members, each to its own path; other members of the archive are ignored."""
    with tarfile.open(got) as archive:
        for name, expected in download.files.items():
            try:
                file = archive.extractfile(name)  # None for a folder; a link leads to a member of the archive or fails
            except KeyError:
                file = None
            if file is None:
                raise ValueError(f"the archive has no file {name}")
            with file:
                _write(file, folder / name, expected)


def _write(file: IO[bytes], path: Path, expected: str) -> None:
    """Copy to ``path``; the file appears there only when it is complete and has the right checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            while piece := file.read(PIECE):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != expected:
            raise ValueError(f"{path.name} has the MD5 {digest.hexdigest()}, the official file {expected}")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
