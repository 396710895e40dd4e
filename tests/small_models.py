"""Small models with and without traps, for tests of per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A float64 model with random weights and running statistics, without touching the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().double()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_by_one(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    was = model.training
    model.eval()
    parameters = dict(model.named_parameters())
    rows = []
    for i in range(len(targets)):
        loss = nn.functional.cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1])
        rows.append(torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True))
    model.train(was)
    return {name: torch.stack([row[k] for row in rows]) for k, name in enumerate(parameters)}


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1), groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 4, 2, padding="same"),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


def images() -> nn.Module:
    model = convolutions().double()
    model(torch.zeros(1, 2, 9, 8, dtype=torch.float64))
    return model
