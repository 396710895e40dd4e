"""Checks arrays from users and makes `Outputs` from them. An error says in one sentence which arrays do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.data.arrays import as_floats, class_numbers, probabilities, tensor_of
from harness.errors import RequestError
from harness.interfaces.outputs import Outputs


def checked_outputs(prefix: str, features: Any, probs: Any, labels: Any, bias: bool) -> Outputs:
    """The `Outputs` of a user's features, probabilities and labels. ``prefix`` starts the array names in errors."""
    p = probabilities(prefix + "probs", probs)
    y = class_numbers(prefix + "labels", labels, max(2, p.shape[1]))
    h = p.new_zeros(len(p), 0) if features is None else tensor_of(prefix + "features", features)
    if h.ndim != 2:
        raise RequestError(f"{prefix}features must be a 2-D array of floats, not {tuple(h.shape)} {h.dtype}")
    if not (len(h) == len(p) == len(y)):
        raise RequestError(
            f"{prefix}features, {prefix}probs and {prefix}labels must have one row per sample; "
            f"given {len(h)}, {len(p)} and {len(y)}"
        )
    return Outputs(y, p, None if features is None else as_floats(h), bias)


def checked_reference(train: Outputs, features: Any, probs: Any, labels: Any, bias: bool) -> Outputs:
    """The `Outputs` of a reference set, checked for the same numbers of columns as the training samples."""
    if features is None or probs is None or labels is None:
        raise RequestError("give reference_features, reference_probs and reference_labels together")
    outputs = checked_outputs("reference_", features, probs, labels, bias)
    if train.features is None or outputs.features is None:
        raise RequestError("a reference set needs features, of the training samples too")
    for name, theirs, ours in (("features", outputs.features, train.features), ("probs", outputs.probs, train.probs)):
        if theirs is not None and ours is not None and theirs.shape[1] != ours.shape[1]:
            raise RequestError(
                f"reference_{name} has {theirs.shape[1]} columns, {name} has {ours.shape[1]}; they must agree"
            )
    return outputs


def checked_blocks(prefix: str, blocks: Mapping[str, Any], labels: Any = None) -> Outputs:
    """The `Outputs` of a user's dense gradients by layer. Without ``labels``, every label is 0."""
    if not isinstance(blocks, Mapping):
        raise RequestError(
            f"{prefix}blocks must be a mapping from names to gradients (n, …), not {type(blocks).__name__}"
        )
    dense = {name: as_floats(tensor_of(f"{prefix}blocks[{name!r}]", values)) for name, values in blocks.items()}
    dense = {name: values.unsqueeze(1) if values.ndim == 1 else values for name, values in dense.items()}
    if not dense or len({len(values) for values in dense.values()}) != 1:
        raise RequestError(f"{prefix}blocks needs at least one array, and all of one length")
    n = len(next(iter(dense.values())))
    numbers = torch.zeros(n, dtype=torch.int64) if labels is None else class_numbers(f"{prefix}labels", labels)
    if len(numbers) != n:
        raise RequestError(f"{prefix}labels has {len(numbers)} entries, the blocks have {n} rows")
    return Outputs(numbers, blocks=dense)


def checked_like(train: Outputs, blocks: Mapping[str, Any]) -> Outputs:
    """The `Outputs` of a reference set's dense gradients. Block names and sizes must match the training blocks."""
    outputs = checked_blocks("reference_", blocks)
    shapes = [
        {name: tuple(values.shape[1:]) for name, values in (made.blocks or {}).items()}  # type: ignore[union-attr]
        for made in (train, outputs)
    ]
    for name in shapes[0].keys() & shapes[1].keys():
        ours, theirs = shapes[0][name], shapes[1][name]
        if ours != theirs and len(ours) > 1 and len(theirs) > 1:  # a flattened block fits any shape
            raise RequestError(f"reference_blocks[{name!r}] has rows of the shape {theirs}, blocks[{name!r}] of {ours}")
    if _sizes(outputs) != _sizes(train):
        raise RequestError("reference_blocks must have the same names and sizes as blocks")
    return outputs


def _sizes(outputs: Outputs) -> dict[str, int]:
    return {name: block.dimension for name, block in outputs.gradients().items()}
