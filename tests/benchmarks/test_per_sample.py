"""Per-sample gradients of small CNNs, against one backward pass per sample.

The floor is the ordinary backward pass of the same samples in batches of 256, which gives their gradients' sum alone.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import harness
from tasks._networks import small_cnn
from tests.benchmarks import usual
from tests.benchmarks.conftest import Versus


def digits_cnn() -> nn.Module:
    """28 × 28 in grey, two strided convolutions: the size of an MNIST example, 8,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, 10),
    )


MODELS = {
    "CNN 28x28": (digits_cnn, (1, 28, 28)),
    "CIFAR smoke CNN": (lambda: nn.Sequential(*small_cnn(), nn.Linear(256, 10)), (3, 32, 32)),
}


@pytest.mark.parametrize("name", MODELS)
def test_against_one_backward_a_sample(versus: Versus, name: str) -> None:
    make, shape = MODELS[name]
    n = 1024 if versus.full else 12
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().eval()
        inputs = torch.randn(n, *shape)
    targets = torch.arange(n) % 10

    def floor() -> None:
        for rows in torch.arange(n).split(256):
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows], reduction="sum")
            torch.autograd.grad(loss, list(model.parameters()))

    found = versus(
        f"per-sample gradients, {name}, n={n:,}",
        lambda: harness.per_sample_gradients(model, inputs, targets),
        lambda: usual.one_backward_a_sample(model, inputs, targets),
        floor,
    )
    expected = usual.one_backward_a_sample(model, inputs[:12], targets[:12])
    for parameter, values in found.items():
        stacked = torch.stack([expected[i][parameter] for i in range(12)])
        torch.testing.assert_close(values[:12], stacked, rtol=1e-4, atol=1e-5)
