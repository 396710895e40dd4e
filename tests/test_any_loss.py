"""Per-sample gradients of any loss: zero rows, weights used twice, penalties."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from tests.any_model import C, D, N, check, drawn, linear, network, seeded


def fitted() -> tuple[nn.Module, Tensor, Tensor]:
    """A confident model that is wrong on a few samples, none of them first, last or evenly spaced."""
    model = linear()
    model.weight.data *= 20
    x = drawn(N, D)
    y = model(x).argmax(1)
    wrong = torch.tensor([7, 23, 38, 51])
    y[wrong] = (y[wrong] + 1) % C
    return model, x, y


def clipped(output: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that stops mattering above a bound or below one."""
    return F.cross_entropy(output, targets, reduction="none").clamp(0.5, 300)


LOSSES = {
    "hinge": nn.MultiMarginLoss(reduction="none"),
    "hinge, mean": nn.MultiMarginLoss(),
    "hinge, sum": nn.MultiMarginLoss(reduction="sum"),
    "cross-entropy, mean": nn.CrossEntropyLoss(),
    "cross-entropy, sum": nn.CrossEntropyLoss(reduction="sum"),
    "label smoothing, mean": nn.CrossEntropyLoss(label_smoothing=0.1),
    "class weights, mean": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "clipped": clipped,
    "divided by the size of the batch": lambda o, t: F.cross_entropy(o, t, reduction="none") / len(t),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_whose_gradients_are_mostly_zero_or_reduced(name: str) -> None:
    model, x, y = fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(model, x, y, LOSSES[name])


def test_rows_to_be_ignored_have_no_gradient() -> None:
    model, x, y = fitted()
    y[[0, 14, 29, 44, 59, 7]] = -100

    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")):
        found = harness.per_sample_gradients(model, x, y, loss=loss)

        ignored = y == -100
        assert not found["weight"][ignored].any()
        expected = harness.per_sample_gradients(model, x[~ignored], y[~ignored])
        torch.testing.assert_close(found["weight"][~ignored], expected["weight"])


class Twice(nn.Module):
    """A weight that is used a second time, for all samples or for some."""

    def __init__(self, some: bool) -> None:
        super().__init__()
        self.some, self.a, self.head = some, nn.Linear(D, D, bias=False), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        again = torch.tanh(F.linear(self.a(x), self.a.weight))
        return self.head(x + (again * (x[:, :1] > 1.5) if self.some else again))


@pytest.mark.parametrize("some", [False, True])
def test_weights_that_are_used_twice(some: bool) -> None:
    model = seeded(lambda: Twice(some))
    x = drawn(N, D)
    x[torch.linspace(0, N - 1, 5).long(), 0] = 0  # none of the samples that are looked at first

    check(model, x, torch.arange(N) % C, nn.CrossEntropyLoss(reduction="none"))


class OnlySome(nn.Module):
    """A layer through which one sample in thirty goes, by its rows or by a mask."""

    def __init__(self, routed: bool) -> None:
        super().__init__()
        self.routed, self.rare, self.head = routed, nn.Linear(D, D), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        mine = x[:, 0] > 1.9
        if not self.routed:
            return self.head(x + self.rare(x) * mine.unsqueeze(1))
        where = torch.nonzero(mine)[:, 0]
        return self.head(x.index_add(0, where, self.rare(x[where])))


@pytest.mark.parametrize("routed", [False, True])
def test_layers_that_few_samples_use(routed: bool) -> None:
    model, x = seeded(lambda: OnlySome(routed)), drawn(N, D)
    assert 0 < int((x[:, 0] > 1.9).sum()) < 5

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(model, x, torch.arange(N) % C, nn.CrossEntropyLoss(reduction="none"))


def penalties(model: nn.Module) -> dict[str, Any]:
    weight = dict(model.named_parameters())["0.weight"]
    each = nn.CrossEntropyLoss(reduction="none")
    return {
        "of all weights": lambda o, t: each(o, t) + 1e-5 * sum(p.square().sum() for p in model.parameters()),
        "of a weight that the loss holds": lambda o, t: each(o, t) + 1e-5 * weight.square().sum(),
        "of the mean": lambda o, t: each(o, t).mean() + 1e-5 * weight.abs().sum(),
        "times the loss": lambda o, t: each(o, t) * weight.square().mean(),
    }


@pytest.mark.parametrize("name", penalties(network()))
def test_a_loss_that_depends_on_the_weights(name: str) -> None:
    model = network()
    x = drawn(N, D) / 1000  # so small that the penalty's gradient is a part of the whole that counts
    check(model, x, torch.arange(N) % C, penalties(model)[name])


def test_a_penalty_in_a_model_that_needs_torch_func() -> None:
    model = seeded(lambda: nn.Sequential(nn.LayerNorm(D), nn.Linear(D, C)))
    held = model[0].weight
    for loss in (
        lambda o, t: F.cross_entropy(o, t, reduction="none") + 1e-5 * held.square().sum(),
        lambda o, t: F.cross_entropy(o, t, reduction="none") + 1e-5 * model[0].weight.square().sum(),
    ):
        with_penalty = check(model, drawn(N, D), torch.arange(N) % C, loss)
        without = harness.per_sample_gradients(model, drawn(N, D), torch.arange(N) % C)
        np.testing.assert_allclose(with_penalty["0.weight"] - without["0.weight"], 2e-5, atol=1e-6)
