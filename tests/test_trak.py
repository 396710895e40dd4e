"""TRAK against its definition: margin gradients by autograd, one sample at a time, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
from tests.conftest import last_layer, trained_view, view_of
from tests.test_ekfac_network import problem  # noqa: F401 - a fixture
from tests.test_ekfac_network import view_of as network_view


def margin_gradients(model: nn.Module, layers: list[nn.Module], x: Any, y: Any) -> np.ndarray:
    """Gradients of log(p/(1 − p)) of each sample's label, (n, p), weight and bias side by side by row."""
    rows = []
    for sample, label in zip(x, y, strict=True):
        log_p = model(sample[None]).log_softmax(1)[0, int(label)]
        margin = log_p - torch.log(-torch.expm1(log_p))
        parts = []
        for layer in layers:
            grads = torch.autograd.grad(margin, list(layer.parameters()), retain_graph=True)
            parts.append(torch.cat([grads[0].flatten(1), *(g.unsqueeze(1) for g in grads[1:])], 1).flatten())
        rows.append(torch.cat(parts))
    return torch.stack(rows).numpy()


def trak(train: np.ndarray, reference: np.ndarray, doubts: np.ndarray) -> np.ndarray:
    return -reference @ np.linalg.pinv(train.T @ train, rcond=1e-9, hermitian=True) @ train.T * doubts


def doubts_of(model: nn.Module, x: Any, y: Any) -> np.ndarray:
    return np.asarray(1 - model(x).softmax(1)[torch.arange(len(y)), y].detach().numpy())


def test_of_a_networks_layers(problem: Any) -> None:  # noqa: F811
    model, x, y, x_ref, y_ref = problem
    layers = [model.conv, model.hidden, model.head]
    train, reference = (margin_gradients(model, layers, *pair) for pair in ((x, y), (x_ref, y_ref)))
    expected = trak(train, reference, doubts_of(model, x, y))
    method = harness.method("trak", layers="all")

    np.testing.assert_allclose(method.attribute(network_view(*problem)), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(method.score(network_view(*problem)), expected.mean(0), rtol=1e-6, atol=1e-9)


def test_of_the_last_layer() -> None:
    """As the network of one layer whose inputs are the features."""
    arrays = last_layer(30, 3, 4)
    h, y, h_ref, y_ref = (
        torch.from_numpy(arrays[name]) for name in ("features", "labels", "reference_features", "reference_labels")
    )
    with torch.random.fork_rng():
        head = nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.linspace(-1, 1, 12).reshape(3, 4))
        head.bias.zero_()
    arrays["probs"], arrays["reference_probs"] = (head(x).softmax(1).detach().numpy() for x in (h, h_ref))

    train, reference = (margin_gradients(head, [head], *pair) for pair in ((h, y), (h_ref, y_ref)))
    scores = harness.method("trak").attribute(view_of(arrays, bias=True))

    np.testing.assert_allclose(scores, trak(train, reference, doubts_of(head, h, y)), rtol=1e-6, atol=1e-9)


def test_one_sigmoid_output_is_two_classes() -> None:
    """A sigmoid's margin is its logit; a softmax over (0, z) has the same margin and twice the weights."""
    arrays = last_layer(40, 2, 4)
    single = {name: values[:, 1:] if name.endswith("probs") else values for name, values in arrays.items()}
    signs = 2 * arrays["labels"] - 1
    g, g_ref = (
        arrays["features"] * signs[:, None],
        arrays["reference_features"] * (2 * arrays["reference_labels"] - 1)[:, None],
    )
    doubts = 1 - arrays["probs"][np.arange(40), arrays["labels"]]

    scores = harness.method("trak").attribute(view_of(single))

    np.testing.assert_allclose(scores, trak(g, g_ref, doubts), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(harness.method("trak").attribute(view_of(arrays)), scores, rtol=1e-6, atol=1e-9)


def test_a_sure_model_keeps_the_digits() -> None:
    """1 − p is below float32's steps at 1, and the scores are still those of float64."""
    arrays = last_layer(40, 3, 4)
    sharp = np.log(arrays["probs"]) * 12
    probs = np.exp(sharp - sharp.max(1, keepdims=True))
    arrays["probs"] = probs / probs.sum(1, keepdims=True)
    arrays["labels"] = arrays["probs"].argmax(1)
    halved = {name: values.astype(np.float32) if values.dtype == float else values for name, values in arrays.items()}
    method = harness.method("trak")

    expected = method.attribute(view_of(arrays))

    assert (halved["probs"].max(1) == 1).any()
    np.testing.assert_allclose(
        method.attribute(view_of(halved)), expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize("layers", ["last", "all"])
def test_projections_keep_the_order(layers: str) -> None:
    """With more dimensions than samples have directions, the projected scores follow the whole ones."""
    _, _, view = trained_view("digits[n_train=200,steps=60]")
    whole = harness.method("trak", layers=layers, projected=100_000).score(view)
    method = harness.method("trak", layers=layers, projected=400)

    projected = method.score(view)

    assert np.corrcoef(whole.argsort().argsort(), projected.argsort().argsort())[0, 1] > 0.6
    np.testing.assert_array_equal(projected, method.score(view))


def test_several_models_average_both_factors() -> None:
    _, _, view = trained_view("moons")
    method: Any = harness.method("trak", n_models=3, kept=0.5)
    scores = method.score(view)

    parts = list(method._margins(view))
    products = [
        p.reference.mean(0) @ torch.linalg.pinv(p.train.T @ p.train, rtol=1e-9, hermitian=True) @ p.train.T
        for p in parts
    ]
    expected = -torch.stack(products).mean(0) * torch.stack([p.doubts for p in parts]).mean(0)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    assert "retraining" in method.uses
    assert not np.allclose(scores, harness.method("trak").score(view))


def test_what_has_no_margin_is_declined() -> None:
    dense = harness.View.from_blocks({"a": np.ones((6, 3))}, {"a": np.ones((2, 3))}, labels=np.zeros(6, dtype=int))

    with pytest.raises(harness.Unsupported, match="TRAK needs class probabilities"):
        harness.method("trak").score(dense)
    with pytest.raises(ValueError, match="kept=2"):
        harness.method("trak", kept=2)
