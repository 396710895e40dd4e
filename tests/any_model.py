"""Models, drawn inputs and comparisons with single passes, for tests of per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import harness

N, D, C = 60, 6, 4


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(n: int, length: int, most: int, seed: int = 2) -> Tensor:
    return torch.randint(1, most, (n, length), generator=torch.Generator().manual_seed(seed))


def alone(model: nn.Module, call: Callable[[slice], Tensor]) -> dict[str, Tensor]:
    """Gradients by one ordinary backward pass per sample.

    Args:
        call: gives one sample's loss.
    """
    model.eval()
    names, parameters = zip(*((k, p) for k, p in model.named_parameters() if p.is_floating_point()), strict=True)
    was = [p.requires_grad for p in parameters]
    rows = []
    for p in parameters:
        p.requires_grad_(True)
    i = 0
    while True:
        try:
            loss = call(slice(i, i + 1))
        except StopIteration:
            break
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        dense = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in zip(found, parameters, strict=True)]
        rows.append(dense)
        i += 1
    for p, before in zip(parameters, was, strict=True):
        p.requires_grad_(before)
    return {name: torch.stack([row[k] for row in rows]) for k, name in enumerate(names)}


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 2e-5) -> None:
    assert set(found) <= set(expected)
    for name, values in found.items():
        size = float(expected[name].abs().max())
        apart = float((values - expected[name]).abs().max())
        assert apart <= tolerance * size + 1e-7, f"{name}: {apart:.2g} of {size:.2g}"


def check(model: nn.Module, x: Any, y: Tensor, loss: Any, **options: Any) -> dict[str, Tensor]:
    """Compare the gradients of a model of one input with single backward passes."""
    n = len(y)

    def one(rows: slice) -> Tensor:
        if rows.start == n:
            raise StopIteration
        return loss(model(x[rows]), y[rows]).sum()

    found = harness.per_sample_gradients(model, x, y, loss=loss, **options)
    compare(found, alone(model, one))
    return found


def linear() -> nn.Module:
    return seeded(lambda: nn.Linear(D, C))


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, C)))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.first = reentrant, nn.Linear(D, D)
        self.inside, self.head = nn.Sequential(nn.Linear(D, D), nn.Tanh()), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inside, self.first(x), use_reentrant=self.reentrant))


X, Y = drawn(600, D), torch.arange(600) % C
