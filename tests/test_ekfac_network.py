"""EK-FAC of a network's layers against its definition, by loops over samples, positions and classes in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, unfold

import harness
from harness.interfaces.outputs import Outputs
from harness.interfaces.trained import Model
from tests.conftest import trained_view


class Small(nn.Module):
    """A convolution, a ReLU in place, a hidden layer without bias, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.hidden = nn.Linear(3 * 4, 5, bias=False)
        self.head = nn.Linear(5, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.hidden(self.relu(self.conv(images)).flatten(1))))
        return logits


@pytest.fixture
def problem() -> tuple[Small, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        model = Small().double().eval()
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=generator) / 2)
    x, x_ref = (torch.randn(n, 2, 4, 4, generator=generator).double() for n in (12, 4))
    y, y_ref = (torch.randint(0, 3, (n,), generator=generator) for n in (12, 4))
    return model, x, y, x_ref, y_ref


def view_of(model: nn.Module, x: Any, y: Tensor, x_ref: Any, y_ref: Tensor) -> harness.View:
    return harness.View(
        y.numpy(),
        lambda: Outputs(y),
        {"validation": lambda: Outputs(y_ref)},
        model=Model(x, {"validation": x_ref}, lambda: model),
    )


def gradient(model: nn.Module, layer: nn.Module, x: Tensor, label: int) -> Tensor:
    """One sample's gradient of a layer, (c, d), with a column for the bias."""
    grads = torch.autograd.grad(cross_entropy(model(x[None]), torch.tensor([label])), list(layer.parameters()))
    return torch.cat([grads[0].flatten(1), *(g.unsqueeze(1) for g in grads[1:])], 1)


def positions(model: nn.Module, layer: nn.Module, x: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """One sample's inputs (t, d) and output gradients (t, c) of a layer."""
    seen: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        seen.extend([given[0].detach().clone(), output])
        return output + 0  # what follows may work in place

    handle = layer.register_forward_hook(note)
    loss = cross_entropy(model(x[None]), torch.tensor([label]))
    handle.remove()
    (delta,) = torch.autograd.grad(loss, seen[1])
    if isinstance(layer, nn.Conv2d):
        a = unfold(seen[0], layer.kernel_size, padding=layer.padding, stride=layer.stride)[0].T
        delta = delta[0].flatten(1).T
    else:
        a = seen[0]
    return (a if layer.bias is None else torch.cat([a, torch.ones(len(a), 1)], 1)), delta


def inverse_of(
    model: nn.Module, layer: nn.Module, x: Tensor, y: Tensor, curvature: str, damping: float | None
) -> tuple[Tensor, float]:
    """(U Λ Uᵀ + λI)⁻¹ of a layer, (c d, c d)."""
    probs = model(x).softmax(1).detach()
    labels = [
        [(int(k), 1.0)] if curvature == "outer_product" else list(enumerate(p.tolist()))
        for k, p in zip(y, probs, strict=True)
    ]
    inputs, outputs, count = torch.zeros(()), torch.zeros(()), 0.0
    for sample, weighted in zip(x, labels, strict=True):
        for label, weight in weighted:
            a, delta = positions(model, layer, sample, label)
            inputs, outputs = inputs + weight * a.T @ a, outputs + weight * delta.T @ delta
            count += weight * len(a)
    u, v = torch.linalg.eigh(outputs / count)[1], torch.linalg.eigh(inputs / count)[1]
    values = sum(
        weight * (u.T @ gradient(model, layer, sample, label) @ v) ** 2 / len(x)
        for sample, weighted in zip(x, labels, strict=True)
        for label, weight in weighted
    ).flatten()
    basis = torch.kron(u, v)
    used = float(values.mean()) / 10 if damping is None else damping
    return basis @ torch.diag(1 / (values + used)) @ basis.T, used


@pytest.mark.parametrize("curvature", ["exact", "outer_product"])
@pytest.mark.parametrize("damping", [1e-3, None])
def test_every_layer_by_its_definition(problem: Any, curvature: str, damping: float | None) -> None:
    model, x, y, x_ref, y_ref = problem
    influence, own = torch.zeros(4, 12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    for layer in (model.conv, model.hidden, model.head):
        inverse, _ = inverse_of(model, layer, x, y, curvature, damping)
        g = torch.stack([gradient(model, layer, s, int(k)).flatten() for s, k in zip(x, y, strict=True)])
        r = torch.stack([gradient(model, layer, s, int(k)).flatten() for s, k in zip(x_ref, y_ref, strict=True)])
        influence -= r @ inverse @ g.T
        own += torch.einsum("ij,jk,ik->i", g, inverse, g)

    options: Any = {"layers": "all", "hessian": curvature, "damping": damping or "auto"}
    method = harness.method("ekfac_influence", **options)
    scale = float(influence.abs().max())

    np.testing.assert_allclose(method.attribute(view_of(*problem)), influence, rtol=1e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(method.score(view_of(*problem)), influence.mean(0), rtol=1e-7, atol=1e-9 * scale)
    scores = harness.method("ekfac_self_influence", **options).score(view_of(*problem))
    np.testing.assert_allclose(scores, own, rtol=1e-7)


def test_a_glob_chooses_layers_and_their_sum_is_all(problem: Any) -> None:
    options: Any = {"hessian": "exact", "damping": 1e-2}
    parts = [
        harness.method("ekfac_self_influence", layers=layers, **options).score(view_of(*problem))
        for layers in ("conv", "h*", "all")
    ]

    np.testing.assert_allclose(parts[0] + parts[1], parts[2])
    with pytest.raises(harness.Unsupported, match=r"layers='haed' names no .* layer .*did you mean 'head'"):
        harness.method("ekfac_self_influence", layers="haed").score(view_of(*problem))


def test_reference_samples_are_solved_in_several_passes(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    method = harness.method("ekfac_influence", layers="all", hessian="outer_product")
    whole = method.attribute(view_of(*problem))

    monkeypatch.setattr("methods._ekfac_network.REFERENCE_BYTES", 1)
    monkeypatch.setattr("harness.gradients.per_sample.MOST_TOGETHER", 3)

    np.testing.assert_allclose(method.attribute(view_of(*problem)), whole, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("task", ["moons", "blobs", "digits[n_train=200,steps=30]"])
def test_the_head_alone_is_the_last_layer(task: str) -> None:
    """The head's Hessian by passes through the model is the one computed from features and probabilities."""
    _, _, view = trained_view(task)
    (*_, head) = (name for name, _ in view.model.named_modules() if name)  # type: ignore[attr-defined]
    options: Any = {"hessian": "exact", "damping": 1e-2}

    for name in ("ekfac_influence", "ekfac_self_influence"):
        by_passes = harness.method(name, layers=head, **options).score(view)
        expected = harness.method(name, layers="last", **options).score(view)
        np.testing.assert_allclose(by_passes, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())


def test_sampled_labels_are_drawn_from_the_model_and_repeat(problem: Any) -> None:
    from methods._network import Network, expectation

    model, x, y, *_ = problem
    network = Network.of(view_of(*problem), "all")
    many = x[:1].expand(20_000, -1, -1, -1)
    (drawn,) = expectation(network, many, y[:1].expand(20_000), "sampled", np.random.default_rng(0))

    shares = torch.bincount(drawn.targets, minlength=3) / 20_000
    np.testing.assert_allclose(shares, model(x[:1]).softmax(1)[0].detach(), atol=0.02)
    method = harness.method("ekfac_self_influence", layers="all")
    np.testing.assert_array_equal(method.score(view_of(*problem)), method.score(view_of(*problem)))
    with pytest.raises(harness.Unsupported, match="hessian=sampled is for layers=all"):
        harness.method("ekfac_self_influence", hessian="sampled").score(trained_view()[2])


def test_padding_counts_in_no_covariance() -> None:
    """With an attention mask, a longer padding changes nothing."""

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
            kept = attention_mask.unsqueeze(2).to(tokens.dtype)
            hidden = torch.tanh(self.inner(tokens)) * kept
            logits: Tensor = self.head(hidden.sum(1) / kept.sum(1))
            return logits

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Text().double().eval()
    y = torch.arange(10) % 2
    tokens, mask = torch.randn(10, 6, 3, generator=generator).double(), torch.ones(10, 6, dtype=torch.int64)
    mask[:5, 4:] = 0
    longer = torch.cat([tokens, 9 * torch.ones(10, 3, 3, dtype=torch.float64)], 1)
    mask_longer = torch.cat([mask, torch.zeros(10, 3, dtype=torch.int64)], 1)
    scores = []
    for inputs in ({"tokens": tokens, "attention_mask": mask}, {"tokens": longer, "attention_mask": mask_longer}):
        view = view_of(model, inputs, y, inputs, y)
        scores.append(harness.method("ekfac_self_influence", layers="all", hessian="outer_product").score(view))

    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-9)
