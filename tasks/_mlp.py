"""Small multilayer perceptrons, many trained at once as one batched program.

All models of a batch start from the same weights and see the same samples with their own weights (0 = left out).
Every model's arithmetic is its own slice of batched products, so a model does not depend on its company beyond the
order of some sums: on the CPUs tried, networks with hidden layers came out the same to the bit whether trained alone or
with others, logistic regressions to 2e-7 in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

BATCH_BYTES = 64 * 2**20
"""Activations of the models trained together."""

SHARED_FROM = 3_000_000
"""Numbers in a batch's activations from which its operations are shared between CPU threads."""


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
        part = slice(index, index + 1)
        return Stack([w[part] for w in self.weights], [None if b is None else b[part] for b in self.biases])

    def features(self, inputs: Tensor) -> Tensor:
        """The last layer's input, (M, n, d)."""
        hidden = inputs.expand(len(self), -1, -1)
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[:-1]:
            hidden = _linear(hidden, weight, bias).relu()
        return hidden

    def logits(self, features: Tensor) -> Tensor:
        """The last layer's output, (M, n, c)."""
        return _linear(features, self.weights[-1], self.biases[-1])


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last axis, or the sigmoid of a single output."""
    return logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(-1)


def predictions(logits: Tensor) -> Tensor:
    """Predicted classes of the last axis."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def train(inputs: Tensor, labels: Tensor, keeps: Tensor, recipe: Recipe, seed: int) -> Iterator[list[Stack]]:
    """Train one network a kept set, in batches bounded by memory; yields each batch's single networks, in order.

    Args:
        inputs: (n, d) floats.
        labels: (n,) int64.
        keeps: (m, n) bool.
        seed: of the initial weights, which all networks share.
    """
    per_model = 4 * 4 * len(inputs) * (inputs.shape[1] + sum(recipe.hidden) + recipe.outputs)
    size = max(1, BATCH_BYTES // per_model)
    for start in range(0, len(keeps), size):
        models = len(keeps[start : start + size])
        with _threads_for(models * len(inputs) * (inputs.shape[1] + sum(recipe.hidden) + recipe.outputs)):
            stack = _train_batch(inputs, labels, keeps[start : start + size], recipe, seed)
        yield [stack[i] for i in range(models)]


@contextmanager
def _threads_for(numbers: int) -> Iterator[None]:
    """One CPU thread for small batches: waiting for each other costs more than the sharing gains, and on a busy machine
    a hundred times as much.
    """
    before = torch.get_num_threads()
    if numbers < SHARED_FROM:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_batch(inputs: Tensor, labels: Tensor, keeps: Tensor, recipe: Recipe, seed: int) -> Stack:
    m = len(keeps)
    stack = _initial(inputs.shape[1], m, recipe, seed, inputs.device)
    parameters = [p for p in [*stack.weights, *stack.biases] if p is not None]
    optimiser = torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    share = keeps.to(inputs.device, inputs.dtype)
    share = share / share.sum(1, keepdim=True)
    target = labels.repeat(m)
    for _ in range(recipe.steps):
        logits = stack.logits(stack.features(inputs)).flatten(0, 1)
        if recipe.outputs == 1:
            losses = binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype), reduction="none")
        else:
            losses = cross_entropy(logits, target, reduction="none")
        optimiser.zero_grad()
        torch.autograd.backward((losses.view(m, -1) * share).sum())
        optimiser.step()
    return Stack([w.detach() for w in stack.weights], [None if b is None else b.detach() for b in stack.biases])


def _initial(n_inputs: int, m: int, recipe: Recipe, seed: int, device: torch.device) -> Stack:
    """torch.nn.Linear's default initialisation, from a generator of its own, repeated m times."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [n_inputs, *recipe.hidden, recipe.outputs]
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []

    def uniform(*shape: int, bound: float) -> Tensor:
        single = (torch.rand(*shape, generator=generator) * 2 - 1) * bound
        return single.to(device).expand(m, *shape).clone().requires_grad_()

    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(fan_in)
        weights.append(uniform(fan_out, fan_in, bound=bound))
        is_head = layer == len(sizes) - 2
        biases.append(uniform(fan_out, bound=bound) if recipe.head_bias or not is_head else None)
    return Stack(weights, biases)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.bmm(inputs, weight.transpose(1, 2))
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))
