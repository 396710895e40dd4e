"""Reading image files as 8-bit RGB, and finding the image files and the class folders."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpeg", ".jpg", ".png")

NOT_DATA = frozenset({"__MACOSX", "@eaDir", "lost+found", "__pycache__", "$RECYCLE.BIN", "System Volume Information"})
"""Folders of operating systems and file servers. Such folders and hidden folders are no classes."""

TWELVE_BITS = 4096
"""12-bit cameras and scanners store values below this in 16-bit files. Read as 16 bits, such images look black."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes of 16-bit grey images. Mode ``I`` has 32 bits; some Pillow versions use it for 16-bit files."""


def is_class_folder(path: Path) -> bool:
    """Whether a folder holds a class's images: hidden folders and those of systems do not."""
    return path.is_dir() and not path.name.startswith(".") and path.name not in NOT_DATA


def images_in(folder: Path) -> list[Path]:
    """A folder's image files, sorted by name; hidden files such as ``._1.png`` are none."""
    with os.scandir(folder) as entries:  # which tells files from folders without asking for each
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    return [folder / name for name in sorted(names) if name.lower().endswith(SUFFIXES)]


def square(path: Path | io.BytesIO, side: int) -> np.ndarray:
    """The middle square of an image, scaled to ``side`` pixels, (3, side, side) uint8.

    An image is turned as its EXIF orientation says. 16 bits are scaled to 8, transparent pixels lie on white, and
    palettes, grey, CMYK and other spaces become RGB.

    Args:
        path: the file, or the bytes of a file.

    Raises:
        RequestError: the file is no image, or is of a kind that may be read wrongly. The message names the file.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            frames = int(getattr(image, "n_frames", 1))
            if image.format == "PNG" and frames > 1:  # a JPEG's further pictures are previews of the first
                raise ValueError(f"it is an animation of {frames} frames; give one file per image")
            raw = _raw_mode(image)
            if "transparency" in image.info and raw.endswith((";16B", ";2", ";4")):
                raise ValueError("it has a transparent colour and pixels of 2, 4 or 16 bits; give it an alpha channel")
            image.draft("RGB", (side, side))  # decode a JPEG near the wanted size
            upright = ImageOps.exif_transpose(image)
            pixels = _rgb(upright)
            if raw.endswith(";16B") and image.mode not in SIXTEEN_BITS:
                _refuse_twelve_bits(256 * int(np.asarray(upright)[..., : 3 if "RGB" in image.mode else 1].max()))
            fitted = ImageOps.fit(pixels, (side, side), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged image can raise anything
        what = path if isinstance(path, Path) else "an image of the data"
        raise RequestError(f"{what} cannot be read as an image: {error or type(error).__name__}") from error
    return np.asarray(fitted).transpose(2, 0, 1)


def _raw_mode(image: Image.Image) -> str:
    """How a PNG's pixels lie in its file, ``RGB;16B`` or ``L;4``; empty for other files."""
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    arguments = tiles[0][3]
    argument = arguments[0] if isinstance(arguments, tuple) else arguments
    return argument if isinstance(argument, str) and image.format == "PNG" else ""


def _refuse_twelve_bits(most: int) -> None:
    if 0 < most < TWELVE_BITS:
        raise ValueError(
            f"it has room for 16 bits and its values go to {most}, as those of 12 bits do; scale it to 8 or 16 bits"
        )


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image)
        most = int(values.max(initial=0))
        if most > 0xFFFF or int(values.min(initial=0)) < 0:
            raise ValueError(f"its values go to {most}, beyond 16 bits")
        _refuse_twelve_bits(most)
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        raise ValueError(f"its pixels are of the kind {image.mode}, which is not known to become RGB rightly")
    return image.convert("RGB")
