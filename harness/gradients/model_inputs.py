"""A model's inputs and outputs in the forms that users have: tensors, NumPy arrays, lists, tuples, mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.arrays import tensor_of
from harness.errors import RequestError

Rows = slice | Tensor


@dataclass(frozen=True)
class Inputs:
    """A model's arguments for n samples.

    Args:
        positional, named: the arguments. A tensor with n rows holds one row per sample. Other arguments are shared by
            all samples: tensors of one row, numbers, text, True, False and None.
        n: the number of samples.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    n: int

    @classmethod
    def of(cls, values: Any, n: int, like: nn.Module) -> Inputs:
        """Read a tensor, an array, a tuple of several arguments, or a mapping of arguments by name.

        Arrays and lists become tensors on the model's device. Floats get the data type of its first parameter.

        Raises:
            RequestError: an argument does not have n rows, or is not an array of numbers.
        """
        if isinstance(values, Mapping):
            named = {str(name): _argument(f"inputs[{name!r}]", value, like) for name, value in values.items()}
            inputs = cls((), named, n)
        elif isinstance(values, tuple):
            places = tuple(_argument(f"inputs[{i}]", value, like) for i, value in enumerate(values))
            inputs = cls(places, {}, n)
        else:
            inputs = cls((_argument("inputs", values, like),), {}, n)
        inputs._check()
        return inputs

    def _check(self) -> None:
        sizes = {name: len(value) for name, value in self.leaves().items() if isinstance(value, Tensor) and value.ndim}
        shared = {name for name, size in sizes.items() if size == 1}
        odd = {name: size for name, size in sizes.items() if size != self.n and name not in shared}
        if odd or (self.n != 1 and not set(sizes) - shared):
            told = ", ".join(f"{name} has {size}" for name, size in (odd or sizes).items()) or "they hold no tensor"
            raise RequestError(f"inputs and targets must have one row per sample: targets has {self.n} rows, {told}")

    def leaves(self) -> dict[str, Any]:
        """All arguments, by their names in error messages."""
        if self.named:
            return {f"inputs[{name!r}]": value for name, value in self.named.items()}
        if len(self.positional) == 1:
            return {"inputs": self.positional[0]}
        return {f"inputs[{i}]": value for i, value in enumerate(self.positional)}

    def part(self, rows: Rows) -> Inputs:
        """A copy for some samples; a model may change the copy in place."""
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        return self.changed(lambda tensor: tensor[rows].clone(), count)

    def changed(self, change: Callable[[Tensor], Tensor], n: int) -> Inputs:
        """A copy in which ``change`` is applied to every tensor that has one row per sample."""

        def one(value: Any) -> Any:
            if self.is_per_sample(value):
                return change(value)
            return value.clone() if isinstance(value, Tensor) else value

        return Inputs(tuple(map(one, self.positional)), {name: one(value) for name, value in self.named.items()}, n)

    def is_per_sample(self, value: Any) -> bool:
        """Whether an argument is a tensor of one row per sample."""
        return isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.n

    def call(self, model: nn.Module) -> Any:
        """The model's output."""
        return model(*self.positional, **self.named)


def _argument(name: str, value: Any, like: nn.Module) -> Any:
    if isinstance(value, Tensor):
        value = value if value.layout is torch.strided else value.to_dense()
        return value.clone() if value.is_inference() else value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _like(tensor_of(name, value), like)


def _like(tensor: Tensor, model: nn.Module) -> Tensor:
    """A converted array on the model's device; floats get the data type of the model's first parameter."""
    first = next(model.parameters())
    floats = tensor.is_floating_point() and first.is_floating_point()
    return tensor.to(first.device, first.dtype if floats else tensor.dtype)


def as_targets(targets: Any, like: nn.Module) -> Tensor:
    """Targets as a tensor on the model's device, (n, …).

    Raises:
        RequestError: the targets are not an array of numbers, or are a single number.
    """
    if isinstance(targets, Tensor):
        ready = targets.clone() if targets.is_inference() else targets
    elif np.ndim(targets) > 0 and len(targets) == 0:
        ready = torch.zeros(0, dtype=torch.int64)
    elif np.ndim(targets) == 0:
        raise RequestError("targets must have one row per sample, (n, …); it is a single value")
    else:
        ready = _like(tensor_of("targets", targets), like)
    if ready.ndim == 0:
        raise RequestError("targets must have one row per sample, (n, …); it is a single value")
    return ready.to(next(like.parameters()).device)


def logits_of(output: Any) -> Tensor:
    """The logits in a model's output.

    The logits are the output itself if the output is a tensor, otherwise the field ``logits``, the first tensor of a
    tuple or list, or the only tensor of a mapping.

    Raises:
        RequestError: the output holds no logits.
    """
    if isinstance(output, Tensor):
        return output
    named = output if isinstance(output, Mapping) else vars(output) if hasattr(output, "__dict__") else {}
    if isinstance(named.get("logits"), Tensor):
        return Tensor(named["logits"]) if type(named["logits"]) is not Tensor else named["logits"]
    several = output if isinstance(output, tuple | list) else [*named.values()]
    tensors = [value for value in several if isinstance(value, Tensor)]
    if tensors and (isinstance(output, tuple | list) or len(tensors) == 1):
        return tensors[0]
    raise RequestError(
        f"the model returns a {type(output).__name__} without logits; give loss=, a function of it and the targets"
    )


def has_scalar(output: Any) -> bool:
    """Whether a model's output holds a single number that depends on weights, such as a loss of its own."""
    if isinstance(output, Tensor):
        return output.ndim == 0 and output.requires_grad
    if isinstance(output, Mapping):
        return any(map(has_scalar, output.values()))
    if isinstance(output, tuple | list):
        return any(map(has_scalar, output))
    return any(map(has_scalar, vars(output).values())) if hasattr(output, "__dict__") else False


def part_of_output(output: Any, rows: slice, n: int) -> Any:
    """A model's output for some of the n samples, in the same form as the whole output."""
    if isinstance(output, Tensor):
        return output[rows] if output.ndim and len(output) == n else output
    if isinstance(output, Mapping):
        changed = {name: part_of_output(value, rows, n) for name, value in output.items()}
        return type(output)(**changed) if hasattr(output, "to_tuple") else changed
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(part_of_output(value, rows, n) for value in output))
    if isinstance(output, tuple | list):
        return type(output)(part_of_output(value, rows, n) for value in output)
    return output
