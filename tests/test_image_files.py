"""Image files of all kinds: read as they look, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
from harness.errors import RequestError
from tasks._image_files import images_in, is_class_folder, square

GREY = np.tile(np.linspace(0, 1, 64), (64, 1))
"""From black on the left to white on the right."""


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def eight(values: np.ndarray) -> np.ndarray:
    return np.round(values * 255).astype(np.uint8)


def cmyk() -> Image.Image:
    return Image.fromarray(np.repeat(eight(GREY)[..., None], 3, 2)).convert("CMYK")


ALIKE: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "8 bits": (lambda: Image.fromarray(eight(GREY)), "a.png"),
    "16 bits": (lambda: Image.fromarray(np.round(GREY * 65535).astype(np.uint16)), "a.png"),
    "RGB": (lambda: Image.fromarray(np.repeat(eight(GREY)[..., None], 3, 2)), "a.png"),
    "palette": (lambda: Image.fromarray(eight(GREY)).convert("RGB").quantize(64), "a.png"),
    "opaque alpha": (lambda: Image.fromarray(eight(GREY)).convert("RGBA"), "a.png"),
    "grey with alpha": (lambda: Image.fromarray(eight(GREY)).convert("LA"), "a.png"),
    "JPEG": (lambda: Image.fromarray(eight(GREY)), "a.jpg"),
    "CMYK": (cmyk, "a.jpeg"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_kinds_of_pixels_look_alike(tmp_path: Path, name: str) -> None:
    make, file = ALIKE[name]

    found = square(saved(tmp_path, make(), file), 32)

    expected = eight(GREY.reshape(32, 2, 32, 2).mean((1, 3)))
    assert found.dtype == np.uint8
    for channel in found.astype(int):
        np.testing.assert_allclose(channel, expected, atol=4)


def test_sixteen_bits_of_one_value(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.full((64, 64), 32768, np.uint16)))
    assert set(np.unique(square(path, 32))) == {128}


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:, 3] = 255
    rgba = square(saved(tmp_path, Image.fromarray(pixels)), 32)
    key = Image.fromarray(np.zeros((64, 64), np.uint8)).convert("P")
    keyed = square(saved(tmp_path, key, "key.png", transparency=0), 32)

    assert rgba[:, :, 0].min() == 255
    assert rgba[:, :, -1].max() == 0
    assert keyed.min() == 255


def test_images_are_turned_as_they_say(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    path = saved(tmp_path, Image.fromarray(eight(GREY)), "a.jpg", exif=exif.tobytes())

    found = square(path, 32).astype(int)

    assert abs(found[0, :, 16] - eight(GREY[0, ::2])).max() < 8  # black at the top


def test_what_cannot_be_read_rightly_is_refused_by_name(tmp_path: Path) -> None:
    frames = [Image.fromarray(eight(GREY * k)) for k in (1, 0.5)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    (tmp_path / "empty.png").write_bytes(b"")
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF")
    (tmp_path / "other.png").write_bytes(buffer.getvalue())
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    (tmp_path / "torn.png").write_bytes(saved(tmp_path, noise, "whole.png").read_bytes()[:2000])
    saved(tmp_path, Image.fromarray(np.round(GREY * 4095).astype(np.uint16)), "twelve.png")
    reasons = {
        "moving": "2 frames",
        "twelve": "go to 4095, as those of 12 bits do",
        "empty": "identify",
        "other": "identify",
        "torn": "truncated",
    }
    for name, reason in reasons.items():
        with pytest.raises(RequestError, match=rf"{name}\.png cannot be read as an image: .*{reason}"):
            square(tmp_path / f"{name}.png", 32)


def png(pixels: bytes, depth: int, colour: int, side: int = 16, transparent: bytes = b"") -> bytes:
    """A PNG by hand: pixels of one row, as many rows as columns."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    extra = chunk(b"tRNS", transparent) if transparent else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + extra
        + chunk(b"IDAT", zlib.compress((b"\0" + pixels) * side))
        + chunk(b"IEND", b"")
    )


REFUSED = {
    "transparent 16-bit grey": (png(b"\x80\0" * 16, 16, 0, transparent=b"\x80\0"), "transparent colour"),
    "transparent 4-bit grey": (png(b"\x55" * 8, 4, 0, transparent=b"\0\5"), "transparent colour"),
    "transparent 16-bit RGB": (png(b"\x80\0" * 48, 16, 2, transparent=b"\x80\0" * 3), "transparent colour"),
    "12 bits in 16-bit RGB": (png(b"\x0f\xff" * 48, 16, 2), "as those of 12 bits do"),
    "12 bits in 16-bit grey with alpha": (png(b"\x0f\xff\xff\xff" * 16, 16, 4), "as those of 12 bits do"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rare_pngs_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(RequestError, match=rf"a\.png cannot be read as an image: .*{reason}"):
        square(tmp_path / "a.png", 8)


def test_rare_pngs_without_tricks_are_read(tmp_path: Path) -> None:
    for content in (png(b"\x80\0" * 48, 16, 2), png(b"\x88" * 8, 4, 0), png(b"\x80\0\xff\xff" * 16, 16, 4)):
        (tmp_path / "a.png").write_bytes(content)
        assert abs(int(square(tmp_path / "a.png", 8).max()) - 132) <= 5


HIDDEN_FILES = ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg")
HIDDEN_FOLDERS = (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir")


def test_hidden_files_are_no_images_and_hidden_folders_no_classes(tmp_path: Path) -> None:
    saved(tmp_path, Image.fromarray(eight(GREY)), "b.PNG")
    for name in HIDDEN_FILES:
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for name in (*HIDDEN_FOLDERS, "folder.png"):
        (tmp_path / name).mkdir()

    assert [path.name for path in images_in(tmp_path)] == ["b.PNG"]
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_class_folder(path)] == ["folder.png"]


def test_the_image_folder_task_ignores_what_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    for part in ("train", "val"):
        for c in range(2):
            folder = tmp_path / "imagenet" / part / f"n0{c}"
            folder.mkdir(parents=True)
            for i in range(4):
                saved(folder, Image.fromarray(np.full((40, 40), 20_000 + 100 * i, np.uint16)), f"{i}.png")
            (folder / "._0.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / "imagenet" / part / ".ipynb_checkpoints").mkdir()
    task = harness.task("imagenet_subset", preset="smoke", per_class=4, n_test=6, n_validation=2, size=32)

    task.check()
    split, _ = task.load(0)

    assert task.class_names() == ["n00", "n01"]
    assert len(split.train) == 8
    assert set(split.train.inputs.unique().tolist()) <= {78, 79}
