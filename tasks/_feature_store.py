"""Features of images, computed once per encoder and image, and kept in files beside the data.

    <data folder>/features/<encoder>-<pixels>-<hash of the weights>/part-<hash>.npz

A part holds the features of some images, with a hash of each image's bytes. Parts are written whole and never changed,
so a computation that is cut off goes on where it was, and every seed, task and subset of the same images shares them.
Processes that need the same images at the same time share the work, part by part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from harness.data.files import data_folder
from harness.data.kept_files import write_arrays
from harness.errors import RequestError
from tasks._bars import bar

if TYPE_CHECKING:
    from tasks._vision_encoders import VisionEncoder

PART = 1024
"""Images in a part."""

BATCH = 16
"""Images that the encoder takes at a time on a CPU, whose cache then holds what the layers give."""

BATCH_CUDA = 512


def features_of(
    images: Tensor, name: str, encoder: VisionEncoder, device: str = "cpu", progress: tqdm[Any] | None = None
) -> Tensor:
    """Features (n, d) float32 on the CPU of images (n, 3, h, w) uint8, from the files or computed.

    Args:
        name: of the encoder, for the folder and for messages.
        device: where missing features are computed.
        progress: a bar of the caller's, which counts images whose features are computed.
    """
    keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.numpy()]
    folder = _folder(f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}-{encoder.pixels}-{encoder.digest}")
    positions = dict(zip(keys, range(len(keys)), strict=True))
    known = _index(folder)
    missing = [key for key in positions if key not in known]
    told = f"features of {name}, {encoder.pixels} pixels"
    with nullcontext(progress) if progress is not None else bar(len(missing), told, "images") as shown:

        def made(chosen: list[bytes], wait: bool) -> bool:
            """Store one part, unless another process computes it; whether it is stored then."""
            part = _part(folder, chosen)
            lock = FileLock(part.with_suffix(".lock"))
            try:
                with lock.acquire(timeout=-1 if wait else 0):
                    if _keys(part) == chosen:
                        shown.update(len(chosen))
                    else:
                        values = _computed(images[[positions[key] for key in chosen]], encoder, device, shown)
                        named = np.frombuffer(b"".join(chosen), dtype=np.uint8).reshape(len(chosen), -1)
                        write_arrays(part, compressed=False, keys=named, values=values)
                    Path(lock.lock_file).unlink(missing_ok=True)
                return True
            except Timeout:
                return False

        parts = [missing[start : start + PART] for start in range(0, len(missing), PART)]
        for chosen in [chosen for chosen in parts if not made(chosen, wait=False)]:
            made(chosen, wait=True)  # another process has it; if that process ends before, the part is ours
    return _gathered(folder, keys)


def _computed(images: Tensor, encoder: VisionEncoder, device: str, shown: tqdm[Any]) -> np.ndarray:
    parts = []
    for batch in torch.split(images, BATCH_CUDA if device.startswith("cuda") else BATCH):
        parts.append(encoder.features(batch.to(device)).cpu())
        shown.update(len(batch))
    return np.asarray(torch.cat(parts).numpy())


def _folder(name: str) -> Path:
    """The folder beside the data, or in the user's cache if the data's folder cannot be written."""
    import pooch

    for base in (data_folder(), Path(pooch.os_cache("influence-harness"))):
        folder = base / "features" / name
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise RequestError(f"features need a folder that can be written; {data_folder()} and {folder} cannot")


def _index(folder: Path) -> dict[bytes, tuple[Path, int]]:
    """The part and the row of each image whose features are stored."""
    return {key: (path, row) for path in sorted(folder.glob("part-*.npz")) for row, key in enumerate(_keys(path))}


def _keys(part: Path) -> list[bytes]:
    """The images of a part; none if it cannot be read."""
    try:
        with np.load(part) as stored:
            return [bytes(key) for key in stored["keys"]]
    except Exception:  # damaged archives raise a dozen kinds
        return []


def _part(folder: Path, keys: Sequence[bytes]) -> Path:
    """The file of a part that holds the features of some images."""
    return folder / f"part-{hashlib.blake2b(b''.join(keys), digest_size=8).hexdigest()}.npz"


def _gathered(folder: Path, keys: Sequence[bytes]) -> Tensor:
    index = _index(folder)
    by_part: dict[Path, list[tuple[int, int]]] = {}
    for position, key in enumerate(keys):
        path, row = index[key]
        by_part.setdefault(path, []).append((position, row))
    features: Tensor | None = None
    for path, places in by_part.items():
        with np.load(path) as stored:
            values = stored["values"]
        if features is None:
            features = torch.empty(len(keys), values.shape[1])
        positions, rows = (list(column) for column in zip(*places, strict=True))
        features[positions] = torch.from_numpy(values[rows])
    return torch.zeros(0, 0) if features is None else features
