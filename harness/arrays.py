"""Arrays that users give, checked and made tensors: one sentence on what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import RequestError
from harness.outputs import Outputs


def tensor_of(name: str, values: Any) -> Tensor:
    """A finite, non-empty tensor of numbers, or a RequestError that names it."""
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} must be an array of numbers ({error})") from error
    if tensor.ndim == 0 or len(tensor) == 0:
        raise RequestError(f"{name} is empty; give one row a sample")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise RequestError(f"{name} has values that are not finite")
    return tensor


def checked_outputs(prefix: str, features: Any, probs: Any, labels: Any, bias: bool) -> Outputs:
    """A set's `Outputs` from a user's features, probabilities and labels; ``prefix`` names them in complaints."""
    p, y = tensor_of(prefix + "probs", probs), tensor_of(prefix + "labels", labels)
    h = p.new_zeros(len(p), 0) if features is None else tensor_of(prefix + "features", features)
    if p.ndim == 1:
        p = p.unsqueeze(1)
    for name, array in (("features", h), ("probs", p)):
        if array.ndim != 2 or not array.is_floating_point():
            raise RequestError(f"{prefix}{name} must be a 2-D array of floats, not {tuple(array.shape)} {array.dtype}")
    if not (len(h) == len(p) == len(y)) or y.ndim != 1:
        raise RequestError(
            f"{prefix}features, {prefix}probs and {prefix}labels must have one row a sample; "
            f"given {len(h)}, {len(p)} and {tuple(y.shape)}"
        )
    if y.is_floating_point():
        raise RequestError(f"{prefix}labels must be integers, not {y.dtype}")
    classes = max(2, p.shape[1])
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise RequestError(f"{prefix}labels must lie in 0 … {classes - 1}; given {int(y.min())} … {int(y.max())}")
    total = p.double().sum(1) if p.shape[1] > 1 else torch.ones(len(p), dtype=torch.float64)
    if float(p.min()) < 0 or float(p.max()) > 1 + 1e-4 or not torch.allclose(total, torch.ones_like(total), atol=1e-3):
        raise RequestError(f"{prefix}probs must be probabilities: in [0, 1], each row with sum 1")
    return Outputs(y.long(), p, None if features is None else h, bias)


def checked_reference(train: Outputs, features: Any, probs: Any, labels: Any, bias: bool) -> Outputs:
    """A reference set's `Outputs`, which fits the training samples'."""
    if features is None or probs is None or labels is None:
        raise RequestError("give reference_features, reference_probs and reference_labels together")
    found = checked_outputs("reference_", features, probs, labels, bias)
    if train.features is None or found.features is None:
        raise RequestError("a reference set needs features, of the training samples too")
    if found.features.shape[1] != train.features.shape[1]:
        raise RequestError(
            f"reference_features has {found.features.shape[1]} columns, "
            f"features has {train.features.shape[1]}; they must agree"
        )
    return found


def checked_blocks(prefix: str, blocks: Mapping[str, Any], labels: Any = None) -> Outputs:
    """A set's `Outputs` from a user's dense gradients by layer; without labels they are all 0."""
    dense = {name: tensor_of(f"{prefix}blocks[{name!r}]", values) for name, values in blocks.items()}
    flat = [name for name, values in dense.items() if values.ndim < 2]
    if flat:
        raise RequestError(f"{prefix}blocks[{flat[0]!r}] must have a row a sample and a column a parameter, (n, …)")
    if not dense or len({len(values) for values in dense.values()}) != 1:
        raise RequestError(f"{prefix}blocks needs at least one array, and all of one length")
    n = len(next(iter(dense.values())))
    given = torch.zeros(n, dtype=torch.int64) if labels is None else tensor_of(f"{prefix}labels", labels).long()
    if len(given) != n:
        raise RequestError(f"{prefix}labels has {len(given)} entries, the blocks have {n} rows")
    return Outputs(given, blocks=dense)


def checked_like(train: Outputs, blocks: Mapping[str, Any]) -> Outputs:
    """A reference set's `Outputs` from a user's dense gradients, of the training samples' blocks."""
    found = checked_blocks("reference_", blocks)
    if _sizes(found) != _sizes(train):
        raise RequestError("reference_blocks must have the same names and sizes as blocks")
    return found


def _sizes(outputs: Outputs) -> dict[str, int]:
    return {name: block.dimension for name, block in outputs.gradients().items()}
