"""Per-sample gradients: which layers, which loss, and how much memory."""

from __future__ import annotations

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
from tests.small_models import images, one_by_one, random, seeded


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
