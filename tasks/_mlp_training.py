"""Training many small networks of one shape as one program, with different kept sets, seeds or data.

For a small network, the overhead of the library calls takes more time than the arithmetic. So each call handles all
networks. Three measures make the calls fast. Activations are stored transposed, (models, width, n), so the innermost
axis is long. Biases are weights of an input row of ones. Gradients are computed by explicit formulas into memory that
is reused in every step. (Adam is written out too, because torch's first optimiser in a process imports torch's
compiler. This import takes longer than the whole training of moons.)

The result of a network is the same to the bit, whatever networks are trained beside it. Products are computed network
by network within a batched call. Samples and parameters are padded with zeros, so that vectorised loops do not cross
the border between two networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from harness.gradients.products import CHUNK_BYTES
from harness.interfaces.dynamics import Recorder
from tasks._mlp import Recipe, Stack

BATCH_BYTES = 16 * 2**20
"""What the networks trained together on a CPU keep, for its cache."""

SHARED_FROM = 400_000
"""Numbers that a batch keeps from which its operations are shared between CPU threads."""

MOMENTS = 20
"""Moments of a full-batch training that are recorded."""

EVEN = 64
"""Numbers that a network's parameters and a sample axis are padded to whole multiples of."""


@dataclass(frozen=True, eq=False)
class Job:
    """Networks to train on one data set from one start.

    Args:
        inputs: (n, d) floats.
        labels: (n,) int64.
        keeps: (m, n) bool, one kept set a network.
        seed: of the initial weights, which the job's networks share.
    """

    inputs: Tensor
    labels: Tensor
    keeps: Tensor
    seed: int


def train(jobs: Sequence[Job], recipe: Recipe) -> Iterator[list[Stack]]:
    """Train all jobs' networks, in batches bounded by memory; yields each batch's single networks, in order."""
    for batch in _batches(jobs, recipe):
        models = sum(len(job.keeps) for job in batch)
        with _threads_for(models, models * _numbers(batch[0].inputs, recipe)), torch.no_grad():
            program = _Program(batch, recipe)
            for _ in range(recipe.steps):
                program.step()
        stack = program.stack()
        yield [stack[i] for i in range(models)]


def train_recorded(inputs: Tensor, labels: Tensor, seed: int, recipe: Recipe, recorder: Recorder) -> Stack:
    """One network on all samples, as `train` gives it, recorded at `MOMENTS` evenly spaced steps.

    A moment's logits are those of the step's own forward pass, before the step moves the weights.
    """
    everything = torch.ones(1, len(inputs), dtype=torch.bool, device=inputs.device)
    steps = sorted({round(step) for step in torch.linspace(1, recipe.steps, MOMENTS).tolist()})
    recorder.start([recipe.lr * (step - before) for before, step in pairwise([0, *steps])], steps)
    rows = torch.arange(len(inputs))
    with _threads_for(1, _numbers(inputs, recipe)), torch.no_grad():
        program = _Program([Job(inputs, labels, everything, seed)], recipe)
        for step in range(1, recipe.steps + 1):
            program.step()
            if step in steps:
                recorder.batch(rows, program.logits())
                recorder.moment(program.stack())
    return program.stack()


def _numbers(inputs: Tensor, recipe: Recipe) -> int:
    """What one network keeps: activations and their gradients; parameters, their gradients and Adam's three."""
    widths = [inputs.shape[1], *recipe.hidden, recipe.outputs]
    parameters = sum((a + 1) * b for a, b in pairwise(widths))
    return _even(len(inputs)) * (3 * sum(recipe.hidden) + 2 * recipe.outputs + 1) + 6 * _even(parameters)


def _batches(jobs: Sequence[Job], recipe: Recipe) -> Iterator[list[Job]]:
    """Jobs, cut up or put together, of one shape of data a batch and as many networks as memory allows."""
    batch: list[Job] = []
    room = 0
    for job in jobs:
        if batch and batch[0].inputs.shape != job.inputs.shape:
            yield batch
            batch = []
        memory = BATCH_BYTES if job.inputs.device.type == "cpu" else CHUNK_BYTES
        most = max(1, memory // (job.inputs.element_size() * _numbers(job.inputs, recipe)))
        start = 0
        while start < len(job.keeps):
            room = most - sum(len(job.keeps) for job in batch)
            keeps = job.keeps[start : start + room]
            batch.append(Job(job.inputs, job.labels, keeps, job.seed))
            start += len(keeps)
            if len(keeps) == room:
                yield batch
                batch = []
    if batch:
        yield batch


@contextmanager
def _threads_for(models: int, numbers: int) -> Iterator[None]:
    """One CPU thread for small batches: waiting for each other costs more than the sharing gains, and on a busy machine
    a hundred times as much. A network by itself has one too, since its products would be cut up between threads.
    """
    before = torch.get_num_threads()
    if models == 1 or numbers < SHARED_FROM:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Program:
    """The memory and the steps of one batch."""

    def __init__(self, jobs: Sequence[Job], recipe: Recipe) -> None:
        inputs = jobs[0].inputs
        n, n_inputs = inputs.shape
        self.n = n
        self.widths = [n_inputs, *recipe.hidden, recipe.outputs]
        layers = len(self.widths) - 1
        self.biased = [recipe.head_bias if layer == layers - 1 else True for layer in range(layers)]
        ends = list(accumulate(len(job.keeps) for job in jobs))
        self.parts = [slice(a, b) for a, b in pairwise([0, *ends])]
        models, samples = ends[-1], _even(n)

        def empty(*shape: int) -> Tensor:
            return inputs.new_zeros(models, *shape)

        shapes = [(b, a + bias) for (a, b), bias in zip(pairwise(self.widths), self.biased, strict=True)]
        starts = [0, *accumulate(a * b for a, b in shapes)]
        self.parameters = empty(_even(starts[-1]))
        self.gradient = torch.zeros_like(self.parameters)
        self.weights, self.into = (
            [flat[:, start : start + a * b].view(models, a, b) for start, (a, b) in zip(starts, shapes, strict=False)]
            for flat in (self.parameters, self.gradient)
        )
        for job, part in zip(jobs, self.parts, strict=True):
            for own, start in zip(self.weights, initial(self.widths, self.biased, job.seed), strict=True):
                own[part] = start.to(own)

        # a product whose last axis is short is slow, so a gradient is taken in whichever form has the longer one
        self.gradients = [empty(*shape) if shape[1] > shape[0] + 1 else empty(*shape[::-1]).mT for shape in shapes]
        self.sums = [empty(width, samples) for width in self.widths[1:]]
        hidden = [empty(width + 1, samples).fill_(1) for width in recipe.hidden]
        self.active = [values[:, :-1] for values in hidden]
        self.sources = [
            values if bias else values[:, :-1] for values, bias in zip(hidden, self.biased[1:], strict=True)
        ]
        self.deltas = [empty(width, samples) for width in recipe.hidden]
        self.backwards = [own[:, :, :width].mT for own, width in zip(self.weights, self.widths, strict=False)]

        ones = inputs.new_ones(n, 1)
        data = [
            pad(torch.cat([job.inputs, ones], 1) if self.biased[0] else job.inputs, (0, 0, 0, samples - n))
            for job in jobs
        ]
        self.inputs = [rows.T.contiguous().expand(len(job.keeps), -1, -1) for rows, job in zip(data, jobs, strict=True)]
        self.targets = [pad(_targets(job.labels, recipe.outputs).to(inputs), (0, samples - n)) for job in jobs]
        keeps = torch.cat([job.keeps.to(inputs) for job in jobs])
        self.shares = pad(keeps / keeps.sum(1, keepdim=True), (0, samples - n)).unsqueeze(1)
        self.adam = _Adam(self.parameters, recipe.lr, recipe.weight_decay)

    def step(self) -> None:
        """One full-batch step of all networks."""
        sums, last = self.sums, len(self.sums) - 1
        for part, values in zip(self.parts, self.inputs, strict=True):
            torch.bmm(self.weights[0][part], values, out=sums[0][part])
        for layer in range(last):
            torch.clamp_min(sums[layer], 0, out=self.active[layer])
            torch.bmm(self.weights[layer + 1], self.sources[layer], out=sums[layer + 1])
        delta = sums[last].sigmoid() if self.widths[-1] == 1 else sums[last].softmax(1)
        for part, target in zip(self.parts, self.targets, strict=True):
            delta[part] -= target
        delta *= self.shares
        for layer in range(last, 0, -1):
            _outer(delta, self.sources[layer - 1], self.gradients[layer])
            torch.bmm(self.backwards[layer], delta, out=self.deltas[layer - 1])
            delta = self.deltas[layer - 1]
            delta *= torch.sign(self.active[layer - 1], out=sums[layer - 1])
        for part, values in zip(self.parts, self.inputs, strict=True):
            _outer(delta[part], values, self.gradients[0][part])
        for into, gradient in zip(self.into, self.gradients, strict=True):
            into.copy_(gradient)
        self.adam.step(self.gradient)

    def logits(self) -> Tensor:
        """The first network's logits of the last step's forward pass, (n, c)."""
        return self.sums[-1][0, :, : self.n].T.clone()

    def stack(self) -> Stack:
        """The networks as they are now."""
        weights = [own[:, :, :width].clone() for own, width in zip(self.weights, self.widths, strict=False)]
        biases = [own[:, :, -1].clone() if bias else None for own, bias in zip(self.weights, self.biased, strict=True)]
        return Stack(weights, biases)


class _Adam:
    """torch.optim.Adam with its default betas and epsilon (Kingma & Ba, ICLR 2015, Algorithm 1; L2 penalty)."""

    def __init__(self, parameters: Tensor, lr: float, weight_decay: float) -> None:
        self.parameters, self.lr, self.weight_decay = parameters, lr, weight_decay
        self.mean, self.square, self.root = (torch.zeros_like(parameters) for _ in range(3))
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        """Move the parameters; ``gradient`` is overwritten."""
        self.steps += 1
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8
        gradient.add_(self.parameters, alpha=self.weight_decay)
        self.mean.lerp_(gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        torch.sqrt(self.square, out=self.root).div_(math.sqrt(1 - beta2**self.steps)).add_(epsilon)
        self.parameters.addcdiv_(self.mean, self.root, value=-self.lr / (1 - beta1**self.steps))


def _outer(delta: Tensor, source: Tensor, out: Tensor) -> None:
    """delta (M, a, n) times source (M, b, n) transposed into out (M, a, b), which may be a transposed view."""
    if out.is_contiguous():
        torch.bmm(delta, source.mT, out=out)
    else:
        torch.bmm(source, delta.mT, out=out.mT)


def initial(widths: Sequence[int], biased: Sequence[bool], seed: int) -> list[Tensor]:
    """torch.nn.Linear's default initialisation from a generator of its own: (out, in [+ 1 for the bias]) by layer."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, bound: float) -> Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) * bound

    layers = []
    for (fan_in, fan_out), bias in zip(pairwise(widths), biased, strict=True):
        bound = 1 / math.sqrt(fan_in)
        parts = [uniform(fan_out, fan_in, bound=bound)]
        if bias:
            parts.append(uniform(fan_out, 1, bound=bound))
        layers.append(torch.cat(parts, dim=1))
    return layers


def _targets(labels: Tensor, outputs: int) -> Tensor:
    return labels.unsqueeze(0) if outputs == 1 else one_hot(labels, outputs).T


def _even(count: int) -> int:
    return -(-count // EVEN) * EVEN
