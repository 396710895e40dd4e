"""Per-sample gradients of linear, convolutional and batch-normalising layers from one batched backward pass.

Two tensors determine each sample's weight gradient: the layer's input a, and the gradient δ of the samples' losses
with respect to the layer's output (Goodfellow 2015; Rochette et al. 2019 for convolutions). The model runs once per
chunk, not once per sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.grad import conv2d_weight

from harness.gradients import products

PARAMETERS = ("weight", "bias")
"""The parameters that rules know, by their names in a layer."""


@dataclass
class Sum:
    """One parameter's gradients, (n, *shape), summed over the parameter's uses.

    The first addition overwrites the memory, so the memory need not be zero before.
    """

    values: Tensor
    started: bool = False

    def add(self, more: Tensor) -> None:
        (self.values.add_ if self.started else self.values.copy_)(more)
        self.started = True

    def part(self, rows: slice) -> Sum:
        """The sum for some samples, in the same memory."""
        return Sum(self.values[rows], self.started)

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Add left (m, a, k) times right (m, k, b); (m, a, b) and the gradients have the same memory order."""
        flat = self.values.view(len(left), left.shape[1], right.shape[2])
        if left.shape[2] > 1:
            flat.baddbmm_(left, right, beta=int(self.started))
        elif self.started:
            flat.addcmul_(left, right)
        else:
            torch.mul(
                left, right, out=flat
            )  # an outer product, for which a batched matrix product is thirty times slower
        self.started = True


class Call:
    """The input and the output of a layer in one call."""

    def __init__(self, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        self.module, self.inputs, self.output = module, inputs, output
        self.versions = inputs._version, output._version

    @property
    def overwritten(self) -> bool:
        return (self.inputs._version, self.output._version) != self.versions

    def has_rows(self, n: int) -> bool:
        """Whether the input and the output both have one row per sample on the first axis."""
        shapes = self.inputs.shape, self.output.shape
        return all(len(shape) > 0 and shape[0] == n for shape in shapes)


Rule = Callable[[nn.Module, Tensor, Tensor, dict[str, Sum]], None]
"""(layer, input, gradient of its output, {parameter: sum}): add the gradients to those that are wanted."""


def linear(layer: nn.Module, inputs: Tensor, delta: Tensor, into: dict[str, Sum]) -> None:
    """Inputs (n, …, in) and output gradients (n, …, out); the gradient is summed over the axes in between."""
    inputs, delta = (values.reshape(len(values), -1, values.shape[-1]) for values in (inputs, delta))
    if "weight" in into:
        into["weight"].add_product(delta.mT, inputs)
    if "bias" in into:
        into["bias"].add(delta.sum(1))


def conv2d(layer: nn.Module, inputs: Tensor, delta: Tensor, into: dict[str, Sum]) -> None:
    """Inputs (n, c, h, w) and output gradients (n, o, h', w'); any stride, dilation, groups, and zero padding.

    The input under each kernel position is copied for as many samples as `CHUNK_BYTES` allows. If the copy for one
    sample exceeds `CHUNK_BYTES`, torch's `conv2d_weight` computes the sample's gradient without a copy.
    """
    assert isinstance(layer, nn.Conv2d)
    if "weight" in into:
        size = delta.shape[2] * delta.shape[3]
        row_bytes = inputs.shape[1] * math.prod(layer.kernel_size) * size * inputs.element_size()
        for rows in products.chunks(len(inputs), row_bytes):
            deltas, total = delta[rows], into["weight"].part(rows)
            if row_bytes > products.CHUNK_BYTES:
                total.add(_weight_gradient(layer, inputs[rows], deltas))
                continue
            n, groups = len(deltas), layer.groups
            under = windows(layer, inputs[rows], delta.shape[2:]).reshape(n * groups, -1, size)
            total.add_product(deltas.reshape(n * groups, layer.out_channels // groups, -1), under.mT)
        into["weight"].started = True
    if "bias" in into:
        into["bias"].add(delta.sum((2, 3)))


def batch_norm(layer: nn.Module, inputs: Tensor, delta: Tensor, into: dict[str, Sum]) -> None:
    """Inputs (n, c, …), normalised by the running statistics."""
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    inputs, delta = inputs.reshape(*inputs.shape[:2], -1), delta.reshape(*delta.shape[:2], -1)
    if "weight" in into:
        scale = torch.rsqrt(layer.running_var + layer.eps)
        into["weight"].add((delta * (inputs - layer.running_mean.unsqueeze(1))).sum(2) * scale)
    if "bias" in into:
        into["bias"].add(delta.sum(2))


def _weight_gradient(layer: nn.Conv2d, inputs: Tensor, delta: Tensor) -> Tensor:
    """One sample's gradient, (1, *weight's shape)."""
    assert not isinstance(layer.padding, str)
    shape = layer.weight.shape
    gradient = conv2d_weight(inputs, shape, delta, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[no-untyped-call]
    return torch.as_tensor(gradient).unsqueeze(0)


def windows(layer: nn.Conv2d, inputs: Tensor, size: tuple[int, ...]) -> Tensor:
    """The input under each kernel position, (n, c, kh, kw, h', w'), as a view of the padded input."""
    assert not isinstance(layer.padding, str)
    height, width = layer.padding
    padded = pad(inputs, (width, width, height, height)).contiguous()
    n, channels, _, _ = padded.shape
    steps = padded.stride()
    shape = (n, channels, *layer.kernel_size, *size)
    (down, right), (apart_down, apart_right) = layer.stride, layer.dilation
    strides = (*steps[:2], steps[2] * apart_down, steps[3] * apart_right, steps[2] * down, steps[3] * right)
    return padded.as_strided(shape, strides)


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule for exactly this kind of layer; subclasses may compute something else."""
    if type(layer) is nn.Linear:
        return linear
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return conv2d
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return batch_norm
    return None
