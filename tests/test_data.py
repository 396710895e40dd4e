"""``data fetch|verify|where``: checksums, resume, safe unpacking, against a server of this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import harness.data.files as data_files
from harness.cli import main
from harness.data.fetching import PIECE, fetch
from harness.data.files import Download
from harness.errors import RequestError
from harness.selection.registry import TASKS
from tasks.cifar import Cifar10N

IMAGES = np.random.default_rng(0).bytes(500_000)
LABELS = b"labels" * 1000


class Server(ThreadingHTTPServer):
    """Serves ``files`` with ranges; breaks off after ``stop_after`` bytes of an answer; keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.stop_after: int | None = None
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.stop_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def downloads(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Download, ...]:
    """An archive of one file and a file, which the server has and the empty data folder has not."""
    packed = archive({"images/batch": IMAGES, "images/readme": b"not asked for"})
    server.files = {"images.tar.gz": packed, "labels.pt": LABELS}
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return (
        Download(server.url + "images.tar.gz", md5(packed), len(packed), {"images/batch": md5(IMAGES)}),
        Download(server.url + "labels.pt", md5(LABELS), len(LABELS), {"labels.pt": md5(LABELS)}),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


WHOLE = {"images/batch": IMAGES, "labels.pt": LABELS}


def test_files_arrive_whole_and_once(server: Server, downloads: tuple[Download, ...], tmp_path: Path) -> None:
    said: list[str] = []
    assert fetch(downloads, said.append) == tmp_path / "data"
    assert files(tmp_path / "data") == WHOLE
    assert not any((tmp_path / "data" / "downloads").glob("*"))
    server.asked.clear()
    fetch(downloads, said.append)
    assert server.asked == []
    assert said[-1] == "labels.pt: there already"
    (tmp_path / "data" / "labels.pt").write_bytes(b"damaged")
    fetch(downloads, said.append)
    assert files(tmp_path / "data") == WHOLE
    assert [path for path, _ in server.asked] == ["/labels.pt"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(
    server: Server, downloads: tuple[Download, ...], tmp_path: Path, ranges: bool
) -> None:
    """From where it stopped where the server allows it, else from the start."""
    server.stop_after, server.ranges = 4 * PIECE, ranges
    with pytest.raises(
        RequestError,
        match=r"images\.tar\.gz cannot be fetched into .*data: the transfer broke off; the same command goes on",
    ):
        fetch(downloads, lambda _: None)
    assert "images/batch" not in files(tmp_path / "data")
    server.stop_after = None
    fetch(downloads, lambda _: None)
    assert files(tmp_path / "data") == WHOLE
    assert server.asked[1] == ("/images.tar.gz", f"bytes={4 * PIECE}-")


def test_another_interrupted_download_is_left_in_peace(
    server: Server, downloads: tuple[Download, ...], tmp_path: Path
) -> None:
    other = tmp_path / "data" / "downloads" / "other.tar.gz.part"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"half")
    for _ in range(2):
        fetch(downloads, lambda _: None)
        assert files(tmp_path / "data") == {**WHOLE, "downloads/other.tar.gz.part": b"half"}


def test_a_folder_that_cannot_be_is_one_sentence(
    downloads: tuple[Download, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "file"))
    with pytest.raises(RequestError, match=r"the data cannot be fetched into .*file"):
        fetch(downloads, lambda _: None)


def test_a_complete_part_is_not_loaded_again(server: Server, downloads: tuple[Download, ...], tmp_path: Path) -> None:
    part = tmp_path / "data" / "downloads" / "images.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.files["images.tar.gz"])
    fetch(downloads, lambda _: None)
    assert files(tmp_path / "data") == WHOLE


def test_what_differs_is_refused_and_not_kept(server: Server, downloads: tuple[Download, ...], tmp_path: Path) -> None:
    server.files["images.tar.gz"] = archive({"images/batch": b"something else"})
    with pytest.raises(RequestError, match=r"images\.tar\.gz cannot be fetched .*hash"):
        fetch(downloads, lambda _: None)
    assert files(tmp_path / "data") == {}
    del server.files["images.tar.gz"]
    with pytest.raises(RequestError, match="404"):
        fetch(downloads, lambda _: None)


@pytest.mark.parametrize("kind", ["path", "link", "folder", "missing", "other"])
def test_archives_cannot_write_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Even an archive with the right checksum: only expected members, only to their places, only as they must be."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    (tmp_path / "secret").write_bytes(b"secret")
    packed = {
        "path": archive({"../outside": b"x", "/tmp/harness-outside": b"x", "images/batch": IMAGES}),
        "link": archive({}, {"images/batch": str(tmp_path / "secret")}),
        "folder": archive({"images/batch/deep": IMAGES}),
        "missing": archive({"images/other": IMAGES}),
        "other": archive({"images/batch": b"other"}),
    }[kind]
    server.files = {"images.tar.gz": packed}
    download = Download(server.url + "images.tar.gz", md5(packed), len(packed), {"images/batch": md5(IMAGES)})
    if kind == "path":
        fetch([download], lambda _: None)
        assert files(tmp_path / "data") == {"images/batch": IMAGES}
    else:
        with pytest.raises(RequestError, match=r"images\.tar\.gz cannot be fetched"):
            fetch([download], lambda _: None)
        assert "images/batch" not in files(tmp_path / "data")
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/harness-outside").exists()


def test_no_server_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=r"labels\.pt cannot be fetched into"):
        fetch([Download("http://127.0.0.1:9/labels.pt", "0" * 32, 1, {"labels.pt": "0" * 32})], lambda _: None)


def test_the_command(
    downloads: tuple[Download, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Cifar10N, "downloads", downloads)
    assert main(["data", "where", "cifar10n"]) == 0
    assert "images/batch: is missing" in capsys.readouterr().out
    assert main(["data", "verify", "cifar10n"]) == 1
    assert "`python -m harness data fetch cifar10n` downloads it" in capsys.readouterr().out
    assert main(["data", "fetch", "cifar10n", "--data-dir", str(tmp_path / "new")]) == 0
    assert files(tmp_path / "new") == WHOLE
    assert main(["data", "verify", "cifar10n", "--data-dir", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.endswith("images/batch: ok\n  labels.pt: ok\n")
    (tmp_path / "new" / "labels.pt").write_bytes(b"other")
    assert main(["data", "verify", "cifar10n", "--data-dir", str(tmp_path / "new")]) == 1
    assert "labels.pt: is damaged or another release" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fetch", "moons"], "moons needs no data files"),
        (["fetch", "cifar10"], "unknown task 'cifar10' (did you mean 'cifar10n'?)"),
        (["fetch", "imagenet_subset"], "imagenet_subset has nothing to fetch: ImageNet cannot be downloaded"),
        (["get", "cifar10n"], "choose from fetch, verify, where"),
        (["verify", "cifar10n", "--data-dir", "/nowhere"], "--data-dir /nowhere is not there"),
    ],
)
def test_wrong_requests(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["data", *arguments])
    except SystemExit as error:
        code = int(str(error.code))
    told = capsys.readouterr().err
    assert code == 2
    assert sentence in told
    assert len(told.strip().splitlines()) == 1


def test_without_a_folder_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_files.data_folder() == tmp_path / "influence-harness"


def test_what_is_published_is_declared_once() -> None:
    """Every file that a CIFAR task reads is in one of its downloads, with an MD5."""
    for name in ("cifar10n", "cifar100n"):
        cls = TASKS.get(name)
        declared = {path for download in cls.downloads for path in download.files}
        assert {*cls.release.train, *cls.release.test, cls.release.human, cls.release.meta} == declared
        assert all(len(value) == 32 for download in cls.downloads for value in download.files.values())
