"""Checks the arrays that users give and converts them to tensors. Every such array goes through this module.

A valid array is used unchanged. Some other representations are converted: any integer or float type and byte order,
strides of either sign, class numbers as booleans or as floats without a fraction, and probabilities that sum to 1 up
to rounding. For every other array, a `RequestError` says in one sentence what is wrong.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import RequestError

PROBABILITY_TOLERANCE = 1e-2
"""How far probabilities may leave [0, 1], and their sum 1, before they are no probabilities. Rows of bfloat16 sum to 1
up to 4e-3, and published files hold values up to 1.00001."""

ROUNDING = 2e-5
"""How far the sum of a row may be from 1 without a word: what float32 leaves of a thousand classes."""

WHOLE = {torch.uint16, torch.uint32, torch.uint64}
"""Integer types that torch stores and does not compute with."""


def tensor_of(name: str, values: Any) -> Tensor:
    """A finite, non-empty tensor of numbers, of a data type that torch computes with.

    Raises:
        RequestError: ``values`` cannot become such a tensor; the message starts with ``name``.
    """
    if isinstance(values, Tensor):
        tensor = values.detach()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_floating_point() and tensor.dtype.itemsize == 1:
            tensor = tensor.float()
    elif isinstance(values, list | tuple) and values and all(isinstance(value, Tensor) for value in values):
        if len({value.shape for value in values}) > 1:
            raise RequestError(f"{name} must be an array of numbers; its rows have different shapes")
        return tensor_of(name, torch.stack([value.detach() for value in values]))
    else:
        tensor = _from_numpy(name, values)
    if tensor.dtype in WHOLE:
        tensor = _as_int64(name, tensor)
    if tensor.is_complex():
        raise RequestError(f"{name} must be an array of real numbers, not {tensor.dtype}")
    if tensor.ndim == 0 or len(tensor) == 0:
        raise RequestError(f"{name} is empty; give one row per sample")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise RequestError(f"{name} has values that are not finite")
    return tensor


def _from_numpy(name: str, values: Any) -> Tensor:
    if np.ma.is_masked(values):
        raise RequestError(f"{name} has masked values; leave those rows out")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} must be an array of numbers ({error})") from error
    if array.dtype.kind == "O":
        array = _from_objects(name, array)
    if array.dtype.kind not in "biufc":
        raise RequestError(f"{name} must be an array of numbers, not of {array.dtype}")
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        array = array.astype(np.float64)  # long double, which torch does not have
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in native.strides):
        native = native.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a read-only array: nothing here writes into its tensor
        return torch.as_tensor(native)


def _from_objects(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers that lie in an array of Python objects, as pandas keeps columns of mixed types."""
    try:
        kinds = {type(value) for value in array.flat}
        if all(issubclass(kind, bool | int | float | np.number | np.bool_) for kind in kinds):
            return array.astype(np.int64 if all(issubclass(k, int | np.integer) for k in kinds) else np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    odd = next((value for value in array.flat if not isinstance(value, int | float | np.number)), "objects")
    raise RequestError(f"{name} must be an array of numbers; it holds {str(odd)[:40]!r}")


def _as_int64(name: str, tensor: Tensor) -> Tensor:
    whole = tensor.to(torch.int64)
    if tensor.dtype is torch.uint64 and whole.numel() and bool((whole < 0).any()):
        raise RequestError(f"{name} has integers beyond 2^63 - 1, the largest that can be computed with")
    return whole


def probabilities(name: str, values: Any) -> Tensor:
    """Class probabilities, (n, c) floats in [0, 1] whose rows sum to 1; (n, 1) for one sigmoid output.

    If all rows sum to 1 up to `ROUNDING`, the values stay the same to the last bit. If the sums are right only up to
    `PROBABILITY_TOLERANCE`, every row is divided by its sum, in float32 at least. A warning then gives the sums.

    Args:
        values: (n, c), or (n,) or (n, 1) for one sigmoid output.

    Raises:
        RequestError: ``values`` are not probabilities; the message starts with ``name``.
    """
    p = tensor_of(name, values)
    p = p.unsqueeze(1) if p.ndim == 1 else p
    if p.ndim != 2 or not p.is_floating_point() or not p.shape[1]:
        raise RequestError(f"{name} must be a 2-D array of floats, not {tuple(p.shape)} {p.dtype}")
    if p.dtype.itemsize < 4:
        p = p.float()  # bfloat16 has three digits; numbers computed in bfloat16 would have no more
    total = p.double().sum(1) if p.shape[1] > 1 else torch.ones(len(p), dtype=torch.float64, device=p.device)
    low, high, off = float(p.min()), float(p.max()), float((total - 1).abs().max())
    if low < -PROBABILITY_TOLERANCE or high > 1 + PROBABILITY_TOLERANCE or off > PROBABILITY_TOLERANCE:
        raise RequestError(
            f"{name} must be probabilities: in [0, 1], each row with sum 1; given {low:.4g} … {high:.4g}, "
            f"with sums from {float(total.min()):.4g} to {float(total.max()):.4g}"
        )
    if low >= 0 and high <= 1 and off <= ROUNDING:
        return p
    p = p.clamp(0, 1)
    if p.shape[1] > 1:
        p = (p / p.double().sum(1, keepdim=True)).to(p.dtype)
    if max(off, -low, high - 1) > ROUNDING:
        warnings.warn(
            f"{name}: values from {low:.6g} to {high:.6g}, rows that sum to {float(total.min()):.6g} … "
            f"{float(total.max()):.6g}; each row was divided by its sum",
            stacklevel=2,
        )
    return p.clamp(0, 1)


def class_numbers(name: str, values: Any, classes: int | None = None) -> Tensor:
    """Class numbers, (n,) int64 from 0: integers of any type, booleans, or floats without a fraction.

    Args:
        classes: the number of classes c, if known; every class number must be below c.

    Raises:
        RequestError: ``values`` are not class numbers; the message starts with ``name``.
    """
    y = tensor_of(name, values)
    if y.ndim != 1:
        raise RequestError(f"{name} must be 1-D, one class number per sample; it has the shape {tuple(y.shape)}")
    if y.is_floating_point() and not bool((y == y.round()).all()):
        raise RequestError(f"{name} must be integers, not {y.dtype} such as {float(y[y != y.round()][0]):g}")
    if y.is_floating_point() and float(y.abs().max()) >= 2**53:
        raise RequestError(f"{name} must be class numbers; there is {float(y.abs().max()):g}")
    y = y.long()
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        most = "…" if classes is None else f"… {classes - 1}"
        raise RequestError(f"{name} must lie in 0 {most}; given {low} … {high}")
    return y


def as_floats(values: Tensor) -> Tensor:
    """Integers as floats: float32 for integer types of up to 16 bits, float64 for larger types."""
    if values.is_floating_point():
        return values
    return values.to(torch.float32 if values.dtype.itemsize <= 2 else torch.float64)
