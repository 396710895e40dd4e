"""Training and reading out image networks: plain SGD on data that stays on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from tasks._networks import Network

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
READ_BATCH = 1024

torch.optim.SGD(
    [torch.zeros(1, requires_grad=True)], lr=0.1
)  # the first optimiser imports torch's compiler: do it once


@dataclass(frozen=True)
class SGDRecipe:
    """SGD with momentum 0.9; a learning rate of ``lr`` for the first part, then a tenth of it.

    Args:
        epochs: passes over the kept samples.
        batch_size: the last, smaller batch of an epoch is used too.
        lr: initial learning rate.
        weight_decay: L2 penalty.
        decay_after: share of the epochs after which the learning rate falls to a tenth.
        augment: random crop with padding 4, and flip.
        shuffle: a new order each epoch; False keeps file order.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    decay_after: float
    augment: bool
    shuffle: bool


def normalise(images: Tensor) -> Tensor:
    """uint8 (n, 3, 32, 32) to normalised float32."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return (images.float() / 255 - mean) / std


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each uint8 image cropped at random from its black-padded (4) version, and flipped with probability 1/2."""
    n, _, height, width = images.shape
    padded = pad(images, (4, 4, 4, 4))
    top, left = (torch.randint(0, 9, (n, 1), generator=generator) for _ in range(2))
    flip = torch.rand(n, 1, generator=generator) < 0.5
    row = torch.arange(height).unsqueeze(0) + top
    column = torch.arange(width).unsqueeze(0).expand(n, -1)
    column = torch.where(flip, width - 1 - column, column) + left
    index = torch.arange(n, device=images.device).view(n, 1, 1)
    rows, columns = row.to(images.device).unsqueeze(2), column.to(images.device).unsqueeze(1)
    return padded.permute(0, 2, 3, 1)[index, rows, columns].permute(0, 3, 1, 2)


def fit(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: SGDRecipe,
    seed: int,
    after_epoch: Callable[[Network], None] | None = None,
) -> None:
    """Train a network in place on uint8 images and labels of its device.

    Args:
        seed: of the order of batches and the augmentation.
        after_epoch: called with the network in eval mode after every epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    n = len(labels)
    for epoch in range(recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * (1.0 if epoch < recipe.decay_after * recipe.epochs else 0.1)
        order = torch.randperm(n, generator=generator) if recipe.shuffle else torch.arange(n)
        network.train()
        for batch in torch.split(order.to(labels.device), recipe.batch_size):
            if len(batch) == 1:
                continue  # batch normalisation has no statistics of one sample
            x = normalise(augmented(images[batch], generator) if recipe.augment else images[batch])
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(network(x), labels[batch]))
            optimiser.step()
        network.eval()
        if after_epoch is not None:
            after_epoch(network)
    network.eval()


@torch.no_grad()
def read_out(network: Network, images: Tensor, augment_seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Last-layer features (n, d) and class probabilities (n, c) of uint8 images, in eval mode.

    Args:
        augment_seed: read randomly cropped and flipped images, as the reference code did; None reads plain ones.
    """
    network.eval()
    generator = None if augment_seed is None else torch.Generator().manual_seed(augment_seed)
    features, probs = [], []
    for batch in torch.split(images, READ_BATCH):
        hidden = network.features(normalise(batch if generator is None else augmented(batch, generator)))
        features.append(hidden)
        probs.append(network.head(hidden).softmax(1))
    return torch.cat(features), torch.cat(probs)


@torch.no_grad()
def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 images whose label the network gives, in eval mode."""
    network.eval()
    hits = sum(
        (network(normalise(x)).argmax(1) == y).sum()
        for x, y in zip(torch.split(images, READ_BATCH), torch.split(labels, READ_BATCH), strict=True)
    )
    return float(hits) / len(labels)
