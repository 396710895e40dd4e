"""A head with one hidden layer on fixed features, trained by SGD: the smallest problem that is not convex."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class HiddenRecipe:
    """AdamW with a learning rate that falls to zero in a straight line.

    Args:
        width: of the hidden layer.
        epochs: passes over the kept samples.
        batch_size: samples per step.
        lr: the largest learning rate.
        weight_decay: decoupled.
    """

    width: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float

    def masses(self, n: int) -> list[float]:
        """The sum of the learning rates of each epoch's steps, for n training samples."""
        per_epoch = -(-n // self.batch_size)
        steps = self.epochs * per_epoch
        rates = [self.lr * (steps - step) / steps for step in range(steps)]
        return [sum(rates[start : start + per_epoch]) for start in range(0, steps, per_epoch)]


class HiddenHead(nn.Module):
    """Features (n, d) to logits (n, c). The features are centred and divided by one number before the hidden layer."""

    centre: Tensor
    scale: Tensor

    def __init__(self, centre: Tensor, scale: float, width: int, n_classes: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", torch.tensor(scale))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.hidden = nn.Linear(len(centre), width)
            self.head = nn.Linear(width, n_classes)

    def inner(self, features: Tensor) -> Tensor:
        """The last layer's input, (n, width)."""
        inner: Tensor = self.hidden((features - self.centre) / self.scale).relu()
        return inner

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.inner(features))
        return logits


def train(
    head: HiddenHead,
    features: Tensor,
    labels: Tensor,
    kept: Tensor,
    recipe: HiddenRecipe,
    seed: int,
    after_batch: Callable[[Tensor, Tensor], None] | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Train a head in place.

    Args:
        kept: positions of the samples to train on, int64.
        seed: of the batches.
        after_batch: receives positions and logits of each batch.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    steps, step = recipe.epochs * -(-len(kept) // recipe.batch_size), 0
    for _ in range(recipe.epochs):
        order = kept[torch.randperm(len(kept), generator=generator).to(kept.device)]
        for rows in torch.split(order, recipe.batch_size):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * (steps - step) / steps
            step += 1
            logits = head(features[rows])
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(logits, labels[rows]))
            optimiser.step()
            if after_batch is not None:
                after_batch(rows, logits.detach())
        if after_epoch is not None:
            after_epoch()
