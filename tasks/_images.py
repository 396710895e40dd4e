"""Training image networks and computing their outputs, on data that stays on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from harness.interfaces.telling import tell
from tasks._networks import ADAPTED_TO, Network

READ_PIXELS = 1024 * 32 * 32
"""Pixels of a batch in reading out: 1,024 images of CIFAR's size."""
MOST_FORMS = 256
"""Compiled networks of a process: kinds, class counts, precisions, and sizes of the last batch, once each."""
Precision = Literal["auto", "float32", "bfloat16"]

torch.optim.SGD(
    [torch.zeros(1, requires_grad=True)], lr=0.1
)  # the first optimiser imports torch's compiler: do it once


@dataclass(frozen=True)
class Windows:
    """Random crops of padded images, and flips with probability 1/2.

    Args:
        size: side of the square crops, in pixels.
        padding: black pixels added on every side first.
    """

    size: int
    padding: int

    def draw(self, n: int, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Corners and flips of n images, (n, 3) int64 (top, left, flipped); drawn on the CPU, so alike everywhere."""
        drawn = [torch.randint(0, side + 2 * self.padding - self.size + 1, (n,), generator=generator) for side in shape]
        return torch.stack([*drawn, torch.randint(0, 2, (n,), generator=generator)], 1)

    def cut(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Those crops of uint8 images (n, 3, h, w), (n, 3, size, size)."""
        padded = pad(images, [self.padding] * 4).permute(0, 2, 3, 1)
        steps = torch.arange(self.size, device=images.device)
        columns = torch.where(drawn[:, 2:] == 1, steps.flip(0), steps) + drawn[:, 1:2]
        rows = steps + drawn[:, :1]
        index = torch.arange(len(images), device=images.device).view(-1, 1, 1)
        return padded[index, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)

    def centre(self, images: Tensor) -> Tensor:
        """The middle of the images, (n, 3, size, size)."""
        top, left = ((side - self.size) // 2 for side in images.shape[2:])
        return images[:, :, top : top + self.size, left : left + self.size]

    def views(self, images: Tensor, drawn: Tensor | None) -> Tensor:
        """The crops that were drawn, or else the middle, with the channels last, which convolutions read fastest."""
        views = self.centre(images) if drawn is None else self.cut(images, drawn)
        return views.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Recipe:
    """Training by SGD with momentum 0.9.

    Args:
        epochs: passes over the kept samples.
        batch_size: the last, smaller batch of an epoch is used too.
        lr: the largest learning rate.
        weight_decay: L2 penalty.
        schedule: ``step``: ``lr``, then a tenth of it; ``one_cycle``: up in a straight line and down to zero, a step
            at a time (after Smith & Topin, 2018), with Nesterov's momentum.
        turn: share of the epochs after which the learning rate falls (step) or of the steps at its peak (one_cycle).
        windows: the crops that training and evaluation see.
        augment: random crop and flip; otherwise the middle.
        shuffle: a new order each epoch; False keeps file order.
        precision: of forward and backward pass; ``auto`` is bfloat16 on a CUDA device that has it, else float32.
        compiled: by ``torch.compile``, once a process for all networks of a kind.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: Literal["step", "one_cycle"]
    turn: float
    windows: Windows
    augment: bool
    shuffle: bool
    precision: Precision = "auto"
    compiled: bool = False

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate of a step (from 0) of so many in all."""
        if self.schedule == "step":
            return self.lr if epoch < self.turn * self.epochs else self.lr / 10
        peak = max(1.0, self.turn * steps)
        return self.lr * min((step + 1) / peak, (steps - step) / max(1.0, steps - peak))

    def masses(self, n: int) -> list[float]:
        """The sum of the learning rates of each epoch's steps, for n training samples."""
        per_epoch = math.ceil(n / self.batch_size)
        steps = range(per_epoch)
        return [
            sum(self.rate(epoch * per_epoch + step, self.epochs * per_epoch, epoch) for step in steps)
            for epoch in range(self.epochs)
        ]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Mixed precision where it is asked for, or is fast by itself: on CUDA devices that need not emulate it."""
        wanted = self.precision == "bfloat16"
        if self.precision == "auto" and device.type == "cuda":
            wanted = torch.version.cuda is None or torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def fit(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    after_epoch: Callable[[int], None] | None = None,
    kept: Tensor | None = None,
    after_batch: Callable[[Tensor, Tensor], None] | None = None,
) -> None:
    """Train a network in place on uint8 images and labels of its device.

    Everything random is drawn on the CPU once an epoch, so that a step copies nothing and waits for nothing.

    Args:
        seed: of the order of batches and the augmentation.
        after_epoch: called with the number of epochs done and the network in eval mode.
        kept: positions of the samples to train on, (k,) int64 on the device; None for all.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=recipe.lr,
        momentum=0.9,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.schedule == "one_cycle",
        fused=True,
    )
    device = labels.device
    kept = torch.arange(len(labels), device=device) if kept is None else kept
    n = len(kept)
    network.adapt(images[kept[:ADAPTED_TO]].contiguous(memory_format=torch.channels_last))
    forward: Callable[[Tensor], Tensor] = _compiled(network) if recipe.compiled else network
    per_epoch = math.ceil(n / recipe.batch_size)
    step = 0
    for epoch in range(recipe.epochs):
        tell(f"epoch {epoch + 1} of {recipe.epochs}")
        order = torch.randperm(n, generator=generator) if recipe.shuffle else torch.arange(n)
        order = kept[order.to(device)]
        drawn = recipe.windows.draw(n, images.shape[2:], generator).to(device) if recipe.augment else None
        network.train()
        for start in range(0, n, recipe.batch_size):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step, recipe.epochs * per_epoch, epoch)
            step += 1
            batch = order[start : start + recipe.batch_size]
            if len(batch) == 1:
                continue  # batch normalisation has no statistics of one sample
            rows = slice(start, start + len(batch))
            x = recipe.windows.views(images[batch], None if drawn is None else drawn[rows])
            optimiser.zero_grad()
            with recipe.autocast(device):
                logits = forward(x).float()
                loss = cross_entropy(logits, labels[batch])
            torch.autograd.backward(loss)
            optimiser.step()
            if after_batch is not None:
                after_batch(batch, logits)
        network.eval()
        if after_epoch is not None:
            after_epoch(epoch + 1)
    network.eval()


def _compiled(network: Network) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled by PyTorch once for each kind of network.

    For PyTorch all kinds are variants of one function. PyTorch keeps only 8 variants by default and would run further
    kinds without compilation, so the limit is raised.
    """
    import torch._dynamo.config as config

    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before PyTorch 2.7
    compiled = torch.compile(network, fullgraph=True)

    def forward(images: Tensor) -> Tensor:
        with config.patch({limit: MOST_FORMS}):
            logits: Tensor = compiled(images)
        return logits

    return forward


class OnImages(nn.Module):
    """A network from uint8 images (n, 3, h, w) to logits (n, c)."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.windows = network, recipe.windows

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.windows.centre(images))
        return logits


@torch.no_grad()
def read_out(
    network: Network, images: Tensor, recipe: Recipe, augment_seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Last-layer features (n, d) and class probabilities (n, c), float32, of uint8 images in eval mode.

    The head is applied in float32 whatever the recipe's precision, so that probabilities are finer than its 8 bits.

    Args:
        augment_seed: read randomly cropped and flipped images, as the reference code did; None reads plain ones.
    """
    network.eval()
    drawn = None
    if augment_seed is not None:
        generator = torch.Generator().manual_seed(augment_seed)
        drawn = recipe.windows.draw(len(images), images.shape[2:], generator).to(images.device)
    features, probs = [], []
    size = max(1, READ_PIXELS // recipe.windows.size**2)
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        x = recipe.windows.views(images[rows], None if drawn is None else drawn[rows])
        with recipe.autocast(images.device):
            hidden = network.features(x)
        features.append(hidden.float())
        probs.append(network.head(features[-1]).softmax(1))
    return torch.cat(features), torch.cat(probs)


def accuracy(network: Network, images: Tensor, labels: Tensor, recipe: Recipe) -> float:
    """Share of uint8 images whose label the network gives, in eval mode."""
    _, probs = read_out(network, images, recipe)
    return float((probs.argmax(1) == labels).double().mean())
