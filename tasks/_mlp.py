"""Small multilayer perceptrons, as stacks of networks of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained: full-batch Adam on the weighted mean cross-entropy.

    Args:
        hidden: widths of the hidden layers; none for logistic regression.
        outputs: c for a softmax, 1 for one sigmoid output (two classes).
        head_bias: whether the last layer has a bias.
        steps: number of full-batch Adam steps.
        lr: learning rate.
        weight_decay: Adam's L2 penalty.
    """

    hidden: tuple[int, ...]
    outputs: int
    head_bias: bool
    steps: int
    lr: float
    weight_decay: float


@dataclass(frozen=True, eq=False)
class Stack:
    """M networks as stacked weights (M, out, in) and biases (M, out), layer by layer."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]

    def __len__(self) -> int:
        return len(self.weights[0])

    def __getitem__(self, index: int) -> Stack:
        one = slice(index, index + 1)
        return Stack([w[one] for w in self.weights], [None if b is None else b[one] for b in self.biases])

    def features(self, inputs: Tensor) -> Tensor:
        """The last layer's input, (M, n, d)."""
        hidden = inputs.expand(len(self), -1, -1)
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[:-1]:
            hidden = _linear(hidden, weight, bias).relu()
        return hidden

    def logits(self, features: Tensor) -> Tensor:
        """The last layer's output, (M, n, c)."""
        return _linear(features, self.weights[-1], self.biases[-1])


def as_module(stack: Stack) -> nn.Module:
    """A stack of one network as a torch module from inputs (n, d_in) to logits (n, c), or (n, 1) for one sigmoid."""
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(weight.shape[2], weight.shape[1], bias is not None, device="meta")  # draws no numbers
        linear.weight = nn.Parameter(weight[0].clone())
        if bias is not None:
            linear.bias = nn.Parameter(bias[0].clone())
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last axis, or the sigmoid of a single output."""
    return logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(-1)


def predictions(logits: Tensor) -> Tensor:
    """Predicted classes of the last axis."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.bmm(inputs, weight.transpose(1, 2))
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))
