"""Storage for gradients that may not fit in memory: above a size limit, a file in the temporary folder holds them."""

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
    """Uninitialised float32 tensors (n, *shape), on the device or in one file that is deleted with the tensors.

    The file is in the temporary folder (``TMPDIR``). A page of the file is read only when the page is used. A product
    that works on one chunk of rows at a time therefore needs memory for one chunk only.

    Args:
        shapes: the shape of one sample's gradient, by name.
        n: the number of samples.
        device: where tensors within the size limit are (limit: 4 GiB, or the variable ``HARNESS_GRADIENTS_GIB``).

    Raises:
        RequestError: the temporary folder has too little space for the file.
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
    """Reserve the disk space now: writing to a mapped file on a full disk would kill the process."""
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
