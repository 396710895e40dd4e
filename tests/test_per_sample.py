"""Per-sample gradients against one backward pass per sample, for layers with a rule, without one, and for traps."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import harness
from harness.errors import RequestError, Unsupported
from harness.gradients import per_sample
from harness.gradients.model_inputs import Inputs
from harness.gradients.per_sample import iterate, per_sample_gradients
from harness.gradients.per_sample_engine import Engine


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


def test_layers_are_chosen_by_name_and_glob() -> None:
    model = seeded(images)
    data = random(4, 2, 9, 8), torch.arange(4) % 3
    assert list(per_sample_gradients(model, *data, "8")) == ["8.weight", "8.bias"]
    assert list(per_sample_gradients(model, *data, ["*.bias", "3"])) == [
        "0.bias",
        "1.bias",
        "3.weight",
        "5.bias",
        "8.bias",
    ]
    with pytest.raises(
        RequestError, match=r"layers='head' names no parameter of this model; it has 0\.weight, 0\.bias"
    ):
        per_sample_gradients(model, *data, "head")
    with pytest.raises(RequestError, match=r"layers=\[\] chooses nothing"):
        per_sample_gradients(model, *data, [])
    with pytest.raises(RequestError, match=r"did you mean '0\.weight'"):
        per_sample_gradients(model, *data, "0.weigth")


def test_inputs_by_name_and_another_loss() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.layer(input=left * right)[:, 0]

    model, left, right, targets = seeded(Two), random(5, 3), random(5, 3, seed=2), random(5, seed=3)

    def squares(outputs: Tensor, wanted: Tensor) -> Tensor:
        return (outputs - wanted) ** 2

    by_name = per_sample_gradients(model, {"left": left, "right": right}, targets, loss=squares)
    by_place = per_sample_gradients(model, (left, right), targets, loss=squares)
    error = 2 * (model(left, right) - targets).detach()
    for found in (by_name, by_place):
        torch.testing.assert_close(found["layer.weight"][:, 0], error.unsqueeze(1) * left * right)
        torch.testing.assert_close(found["layer.bias"][:, 0], error)


def test_what_cannot_be_done_is_said() -> None:
    model = seeded(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    )
    with pytest.raises(Unsupported, match="1 normalises by the batch's own statistics"):
        per_sample_gradients(model, random(5, 4), torch.arange(5) % 3)

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x * self.scale if float(x.sum()) > 0 else x)

    branching, data = seeded(Branching), (random(5, 4), torch.arange(5) % 3)
    with pytest.warns(UserWarning, match=r"gradients of scale are computed one sample at a time.*vmap"):
        found = per_sample_gradients(branching, *data)
    np.testing.assert_allclose(found["scale"], one_by_one(branching, *data)["scale"], atol=1e-11)
    assert list(per_sample_gradients(branching, *data, "head")) == ["head.weight", "head.bias"]


def test_chunks_are_bounded_by_memory() -> None:
    model = seeded(lambda: nn.Linear(4, 3))
    data = random(10, 4), torch.arange(10) % 3
    one = Engine(model, dict(model.named_parameters()), per_sample.cross_entropies)
    kept = one.begin(Inputs((data[0][:1],), {}, 1), data[1][:1])
    assert kept >= 8 * (4 + 3)  # the input and the probabilities, at least

    with mock.patch.object(per_sample, "CHUNK_BYTES", 4 * (8 * 15 + 2 * kept)):
        sizes = [rows.stop - rows.start for rows, _ in iterate(model, *data)]

    assert sizes == [4, 4, 2]


def test_windows_of_large_images_are_bounded_by_memory() -> None:
    """A convolution's windows are copied out for few samples at a time, or not at all, with the same result."""
    model, inputs, targets = seeded(images), random(10, 2, 9, 8), torch.arange(10) % 3
    expected = per_sample_gradients(model, inputs, targets)
    for bound in (1, 5_000, 100_000):
        with mock.patch("harness.gradients.products.CHUNK_BYTES", bound):
            found = per_sample_gradients(model, inputs, targets)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-9, atol=1e-12)


def test_one_sample_and_none_at_all() -> None:
    model = seeded(images)
    found = per_sample_gradients(model, random(1, 2, 9, 8), torch.tensor([2]))
    torch.testing.assert_close(found["0.weight"], one_by_one(model, random(1, 2, 9, 8), torch.tensor([2]))["0.weight"])
    assert per_sample_gradients(model, random(0, 2, 9, 8), torch.zeros(0, dtype=torch.long))["8.bias"].shape == (0, 3)


def test_methods_run_on_a_models_inner_layers() -> None:
    """The whole way from a model to scores; the head's blocks give what the last layer's own factors give."""
    model = seeded(images)
    inputs, targets = random(40, 2, 9, 8), torch.arange(40) % 3
    reference, wanted = random(12, 2, 9, 8, seed=5), torch.arange(12) % 3
    blocks = per_sample_gradients(model, inputs, targets, ["3", "8"])
    view = harness.View.from_blocks(blocks, per_sample_gradients(model, reference, wanted, ["3", "8"]), labels=targets)
    for name in ("datainf", "gradient_tracing", "outlier_l2", "self_datainf"):
        assert np.isfinite(harness.method(name).score(view)).all()
    model.eval()
    with torch.no_grad():
        features = model[:-1](inputs)
        probs = model(inputs).softmax(1)
    by_factors = harness.View.from_arrays(features, probs, targets, bias=True)
    only_head = harness.View.from_blocks({name: values for name, values in blocks.items() if name.startswith("8")})
    np.testing.assert_allclose(
        harness.method("outlier_l2").score(only_head), harness.method("outlier_l2").score(by_factors), rtol=1e-9
    )
