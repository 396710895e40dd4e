"""Products of a tall matrix with a few columns, the main operation of scoring, and the division of rows into chunks.

Scoring n samples reads an (n, d) matrix of features a few times and multiplies the matrix by about ten columns. The
general matrix product of CPU libraries first packs its operands. For so few columns, packing costs more time than
packing saves. The same sum can be written as a 1 × 1 convolution over n pixels of d channels. oneDNN computes this
convolution at half the memory bandwidth, up to four times as fast as the matrix product (measured in
``docs/speed.md``). The sums of the convolution also have smaller rounding errors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

from harness.errors import RequestError


def _chunk_bytes(setting: str) -> int:
    try:
        mib = float(setting)
    except ValueError:
        mib = math.nan
    if not 0 < mib < math.inf:
        raise RequestError(f"HARNESS_CHUNK_MIB={setting} is not valid; give a positive number of MiB, such as 64")
    return max(1, int(mib * 2**20))


CHUNK_BYTES = _chunk_bytes(os.environ.get("HARNESS_CHUNK_MIB", "64"))
"""Working memory of one chunk of rows, set by the variable HARNESS_CHUNK_MIB; results depend on it by rounding only."""

CACHE_BYTES = 4 * 2**20
"""Copies that are read again at once (a float64 version of some rows) are kept small enough for a CPU's cache."""

MOST_ROWS = 2**16
"""Rows whose float32 sums are taken together before they are added up in float64."""

THIN_COLUMNS, THIN_WIDTH, THIN_SIZE = 64, 2**14, 2**18


def chunks(n: int, row_bytes: int, cached: bool = False) -> Iterator[slice]:
    """Slices of 0 … n, each of at most `MOST_ROWS` rows.

    The rows of one slice together need at most `CHUNK_BYTES` (with ``cached``, at most `CACHE_BYTES`).
    """
    most = min(CHUNK_BYTES, CACHE_BYTES) if cached else CHUNK_BYTES
    step = min(MOST_ROWS, max(1, most // max(1, row_bytes)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def times(tall: Tensor, columns: Tensor) -> Tensor:
    """``tall @ columns`` for (n, d) and (d, m) of one dtype."""
    m = columns.shape[1]
    if not _thin(tall, m):
        return tall @ columns
    kernel = columns.T.reshape(m, -1, 1, 1)
    return conv2d(_pixels(tall), kernel).permute(0, 2, 3, 1).reshape(-1, m)


def transposed_times(weights: Tensor, tall: Tensor) -> Tensor:
    """``weights.T @ tall`` for (n, m) and (n, d) of one dtype."""
    m, d = weights.shape[1], tall.shape[1]
    if not (_thin(tall, m) and weights.is_contiguous()):
        return weights.T @ tall
    summed: Tensor = conv2d_weight(_pixels(tall), (m, d, 1, 1), _pixels(weights))  # type: ignore[no-untyped-call]
    return summed.reshape(m, d)


def aligned(values: Tensor) -> Tensor:
    """The same values at a multiple of 64 bytes, where oneDNN reads fastest; NumPy's arrays often lie elsewhere."""
    return values.clone() if values.device.type == "cpu" and values.data_ptr() % 64 else values


def _thin(tall: Tensor, columns: int) -> bool:
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (
        onednn
        and tall.dtype == torch.float32
        and tall.device.type == "cpu"
        and columns <= THIN_COLUMNS
        and tall.shape[1] <= THIN_WIDTH
        and tall.numel() >= THIN_SIZE
        and tall.is_contiguous()
    )


def _pixels(matrix: Tensor) -> Tensor:
    """View (n, d) as an image of n pixels and d channels; a row-major matrix already has the channels-last layout."""
    n, d = matrix.shape
    return matrix.view(1, n, 1, d).permute(0, 3, 1, 2)
