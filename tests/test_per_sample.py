"""Per-sample gradients against one backward pass per sample, for layers with a rule, without one, and for traps."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.gradients import per_sample
from harness.gradients.per_sample import iterate, per_sample_gradients
from tests.small_models import images, one_by_one, random, seeded


class Shared(nn.Module):
    """One layer called twice, one weight also used by hand, one layer not used at all."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.tied, self.head, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x).tanh()).tanh()
        return self.head(self.tied(x) @ self.tied.weight.T)


class InPlace(nn.Module):
    """Works in place on outputs and on inputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x.relu_()
        y = self.b(x)
        y += x
        y.sigmoid_()
        return self.head(y)


class Sequences(nn.Module):
    """Layer norm, embedding, attention, and a linear layer over positions, as transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide, self.head = nn.Linear(8, 8, bias=False), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.embedding(tokens))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.wide(x).tanh().mean(1))


class PositionsFirst(nn.Module):
    """A layer whose first axis is not the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.transpose(0, 1)).tanh().sum(0))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "convolutions": (images, random(10, 2, 9, 8)),
    "batch norm on vectors": (
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)),
        random(10, 5),
    ),
    "shared": (Shared, random(10, 6)),
    "in place": (InPlace, random(10, 6)),
    "sequences": (Sequences, torch.randint(0, 11, (10, 5), generator=torch.Generator().manual_seed(0))),
    "positions first": (PositionsFirst, random(10, 3, 4)),  # as many positions as samples that are checked
    "positions": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)), random(10, 5, 4)),
}


@pytest.mark.parametrize("together", [1, 4, 256])
@pytest.mark.parametrize("name", MODELS)
def test_same_as_one_backward_pass_a_sample(name: str, together: int) -> None:
    make, inputs = MODELS[name]
    model = seeded(make)
    targets = torch.arange(10) % 3
    expected = one_by_one(model, inputs, targets)
    with mock.patch.object(per_sample, "MOST_TOGETHER", together):
        found = per_sample_gradients(model, inputs, targets)
    assert list(found) == list(expected)
    for parameter, values in expected.items():
        torch.testing.assert_close(
            found[parameter], values, rtol=1e-9, atol=1e-11, msg=lambda m, p=parameter: f"{p}: {m}"
        )


class Experts(nn.Module):
    """Which expert a sample goes to depends on it, so that a layer sees few of the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(4, 4) for _ in range(2)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            (mine,) = torch.nonzero((x[:, 0] > 0) == bool(k), as_tuple=True)
            y = y.index_put((mine,), expert(x[mine]))
        return self.head(y.tanh())


class TiedSquare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.layer(x) @ self.layer.weight.T).tanh())


def test_layers_that_see_few_samples_are_never_given_zeros() -> None:
    """All samples that are looked at first go to one expert, later ones to both."""
    inputs = random(20, 4)
    inputs[:, 0] = inputs[:, 0].abs()
    inputs[12, 0] = inputs[13, 0] = -1
    model, targets = seeded(Experts), torch.arange(20) % 3

    with pytest.warns(UserWarning, match="one sample at a time"):  # such routing cannot be vmapped either
        found = per_sample_gradients(model, inputs, targets)

    for name, values in one_by_one(model, inputs, targets).items():
        np.testing.assert_allclose(found[name], values, atol=1e-11)


def test_the_check_looks_at_samples_all_over() -> None:
    inputs, targets = random(30, 4), torch.arange(30) % 3
    inputs[:3] = 0  # no gradient in the tied layer
    model = seeded(TiedSquare)
    found = per_sample_gradients(model, inputs, targets)
    np.testing.assert_allclose(found["layer.weight"], one_by_one(model, inputs, targets)["layer.weight"], atol=1e-11)


def test_chunks_of_two_passes_may_interleave() -> None:
    model, inputs, targets = seeded(images), random(10, 2, 9, 8), torch.arange(10) % 3
    expected = one_by_one(model, inputs, targets)["0.weight"]
    with mock.patch.object(per_sample, "MOST_TOGETHER", 4):
        for (rows, found), _ in zip(iterate(model, inputs, targets), iterate(model, inputs, targets), strict=True):
            assert model.training
            np.testing.assert_allclose(found["0.weight"], expected[rows], atol=1e-11)
            model.train()


def test_layers_without_gradients_have_zeros() -> None:
    class HalfFrozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head, self.idle = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(x)

    model, inputs, targets = seeded(HalfFrozen), random(6, 4), torch.arange(6) % 3
    found = per_sample_gradients(model, inputs, targets)
    assert not found["backbone.weight"].any()
    np.testing.assert_allclose(found["head.weight"], one_by_one(model, inputs, targets)["head.weight"], atol=1e-12)
    assert not per_sample_gradients(model.requires_grad_(False), inputs, targets, "idle")["idle.weight"].any()


def test_autocast_and_running_means_far_from_zero() -> None:
    model, inputs, targets = seeded(images).float(), random(10, 2, 9, 8).float(), torch.arange(10) % 3
    expected = per_sample_gradients(model, inputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = per_sample_gradients(model, inputs, targets)
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], values)
    far = seeded(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))).float()
    far[0].running_mean += 1e4
    x = (random(10, 4) + 1e4).float()
    by_rule, alone = per_sample_gradients(far, x, targets)["0.weight"], one_by_one(far, x, targets)["0.weight"]
    np.testing.assert_allclose(by_rule, alone, rtol=1e-2, atol=1e-3 * float(alone.abs().max()))


def test_the_model_is_left_as_it_was() -> None:
    model = seeded(images)
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[3].weight.requires_grad_(False)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    per_sample_gradients(model, random(6, 2, 9, 8), torch.arange(6) % 3)
    assert model.training
    assert [module.training for module in model[:3]] == [True, False, True]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert not model[3].weight.requires_grad
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_parameters_can_be_chosen() -> None:
    model = seeded(images).requires_grad_(False)
    inputs, targets = random(6, 2, 9, 8), torch.arange(6) % 3
    found = per_sample_gradients(model, inputs, targets, "0.weight")
    torch.testing.assert_close(found["0.weight"], one_by_one(model.requires_grad_(True), inputs, targets)["0.weight"])
