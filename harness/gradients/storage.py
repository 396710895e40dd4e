"""Room for gradients that may not fit in memory: tensors that lie in a file of the temporary folder beyond a size."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from harness.errors import RequestError

VARIABLE = "HARNESS_GRADIENTS_GIB"
IN_MEMORY_GIB = 4.0
"""Gradients of one set of samples beyond this go to disk."""


def allocated(shapes: Mapping[str, tuple[int, ...]], n: int, device: torch.device) -> dict[str, Tensor]:
    """Uninitialised float32 tensors (n, *shape), on the device, or together in a file that vanishes with them.

    The file is in the temporary folder (``TMPDIR``). Its pages are read when they are asked for, so that products
    that go through rows a chunk at a time need memory for a chunk.

    Args:
        shapes: of one sample's numbers, by name.
        n: samples.
        device: where they are, if they fit within the limit (4 GiB, or the variable ``HARNESS_GRADIENTS_GIB``).

    Raises:
        RequestError: the temporary folder has no room for them.
    """
    sizes = {name: n * math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    if 4 * total <= _limit() * 2**30:
        return {name: torch.empty(n, *shape, device=device) for name, shape in shapes.items()}
    handle, path = tempfile.mkstemp(prefix="influence-harness-", suffix=".gradients")
    try:
        _reserve(handle, 4 * total)
        whole = torch.from_file(path, shared=True, size=total, dtype=torch.float32)
    finally:
        os.close(handle)
        Path(path).unlink()
    parts = torch.split(whole, list(sizes.values()))
    return {name: values.view(n, *shape) for values, (name, shape) in zip(parts, shapes.items(), strict=True)}


def _reserve(handle: int, size: int) -> None:
    """Take the disk's space now: a mapped file that cannot grow ends the process when it is written to."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            os.truncate(handle, size)
    except OSError as error:
        raise RequestError(
            f"gradients need {size / 2**30:.1f} GiB in {tempfile.gettempdir()}, which has no room ({error.strerror}); "
            f"name a larger folder by TMPDIR, or keep them in memory by {VARIABLE}"
        ) from error


def _limit() -> float:
    setting = os.environ.get(VARIABLE, str(IN_MEMORY_GIB))
    try:
        limit = float(setting)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise RequestError(f"{VARIABLE}={setting} must be a size in GiB, such as {IN_MEMORY_GIB}")
    return limit
