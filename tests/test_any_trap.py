"""Per-sample gradients of models that closed forms would get wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import harness
from harness.gradients.autograd import Activations
from tests.any_model import C, Checkpointed, D, X, Y, compare, drawn, network, seeded, tokens


class Sorted(nn.Module):
    """Sorts samples by length inside, and gives them back in order."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner, self.head = nn.Embedding(20, D, padding_idx=0), nn.Linear(D, D), nn.Linear(D, C)

    def forward(self, ids: Tensor) -> Tensor:
        order = torch.argsort((ids > 0).sum(1), descending=True, stable=True)
        hidden = torch.tanh(self.inner(self.words(ids[order]).sum(1)))
        return self.head(hidden[torch.argsort(order)])


class OwnLoss(nn.Module):
    """A language model that gives its mean loss, as Hugging Face's do with ``labels=``."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, D), nn.Linear(D, 20)

    def forward(self, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.words(ids))
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())}


class WithPrototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.prototypes = nn.Linear(D, 5), nn.Parameter(drawn(10, 5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), self.prototypes


class Forces(nn.Module):
    """Gives a gradient in its input, so that its layers act through gradients alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(D, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.b(torch.tanh(self.a(x))).sum(), x, create_graph=True)[0]


class Scaled(nn.Module):
    """A layer whose gradients are a millionth of the others', and a hook that doubles its output."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.head, self.temperature = nn.Linear(D, D), nn.Linear(D, C), nn.Parameter(torch.tensor(1.5))
        self.empty = nn.Parameter(torch.empty(0))
        self.small.register_forward_hook(lambda module, given, output: 2 * output)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + 1e-6 * self.small(x)) * self.temperature


class InPlaceOnInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, C)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x[:, 0] *= 2
        hidden = self.norm(x)
        self.last = hidden.detach()
        return self.head(hidden)


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(3, D), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(torch.tanh(self.a(x.reshape(len(x), 2, 3))).mean(1)).float()


class OneAtATime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(D, C), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 1
        return self.yes(x) if x[:, 0] > 0 else self.no(x)


class UsesFunc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.func.vmap(torch.func.grad(lambda row: (row**2).sum()))(x))


def lengths() -> Tensor:
    """Token ids of full length where samples are looked at first, and of mixed length elsewhere."""
    ids = tokens(600, 8, 20)
    short = torch.arange(600) % 7 == 3
    short[torch.linspace(0, 599, 5).long()] = False
    ids[short, 4:] = 0
    return ids


def balanced(output: Tensor, targets: Tensor) -> Tensor:
    """Class weights divided by their mean over the batch."""
    weights = torch.tensor([1.0, 10.0, 1.0, 1.0])[targets]
    return F.cross_entropy(output, targets, reduction="none") * weights / weights.mean()


RARE = (lengths()[:, 7] == 0).long()


EACH = nn.CrossEntropyLoss(reduction="none")


TRAPS: dict[str, tuple[Callable[[], nn.Module], Any, Tensor, Any]] = {
    "rows sorted inside": (Sorted, lengths(), Y, EACH),
    "weights by the batch": (lambda: nn.Linear(D, C), X, RARE, balanced),
    "an output as long as a chunk": (
        WithPrototypes,
        X[:522],
        Y[:522],
        lambda o, t: ((o[0] - o[1].mean(0)) ** 2).mean(),
    ),
    "a loss as long as a chunk": (
        lambda: nn.Linear(D, C),
        X[:516],
        torch.rand(516, C, generator=torch.Generator().manual_seed(0)),
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, reduction="none").mean(0),
    ),
    "gradients in inputs": (Forces, drawn(60, D), drawn(60, D, seed=4), lambda o, t: ((o - t) ** 2).sum(1)),
    "small gradients": (Scaled, X * 30, Y, EACH),
    "autocast inside": (Autocast, X[:60], Y[:60], EACH),
    "one sample at a time": (OneAtATime, X[:60], Y[:60], EACH),
    "torch.func inside": (UsesFunc, X[:60], Y[:60], EACH),
    "targets changed in place": (lambda: nn.Linear(D, C), X[:60], Y[:60] + 1, lambda o, t: EACH(o, t.sub_(1))),
}


@pytest.mark.parametrize("name", TRAPS)
def test_traps(name: str) -> None:
    make, x, y, loss = TRAPS[name]
    model = seeded(make)
    kept = y.clone()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, x, y, loss=loss)

    rows = range(0, len(y), 7)
    parameters = dict(model.named_parameters())
    for row in rows:
        value = loss(model(x[row : row + 1].clone()), y[row : row + 1].clone()).sum()
        expected = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        for key, right in zip(parameters, expected, strict=True):
            right = torch.zeros_like(parameters[key]) if right is None else right
            size = float(right.abs().max()) if right.numel() else 0.0
            close = torch.isclose(found[key][row], right, rtol=1e-3, atol=2e-5 * size + 1e-9)
            assert bool(close.all()), f"{key} in row {row}"
    assert torch.equal(y, kept)


def test_a_models_own_mean_loss_counts_each_samples_tokens_alone() -> None:
    model, ids = seeded(OwnLoss), lengths()
    labels = torch.where(ids == 0, -100, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(
            model, {"ids": ids, "labels": labels}, Y, loss=lambda output, targets: output["loss"]
        )

    for row in range(0, 600, 11):
        one = slice(row, row + 1)
        (right,) = torch.autograd.grad(model(ids[one], labels[one])["loss"], [model.head.weight])
        torch.testing.assert_close(found["head.weight"][row], right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", ["inside", ["inside", "head"], "first", "*"])
def test_reentrant_checkpoints_hide_nothing_and_leave_gradients_alone(layers: Any) -> None:
    model, plain = (seeded(lambda r=r: Checkpointed(r)) for r in (True, False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, X[:20], Y[:20], layers=layers)

    compare(found, harness.per_sample_gradients(plain, X[:20], Y[:20]))
    assert all(p.grad is None for p in model.parameters())


def test_coarse_weights_do_not_hide_an_error() -> None:
    """A tenth too much is seen in bfloat16, and beside float8 weights that nothing is computed with."""
    model = network().bfloat16()
    model[2].register_forward_hook(lambda module, given, output: 1.1 * output)
    x, y = X[:20].bfloat16(), Y[:20]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, x, y, layers="2.bias")["2.bias"].float()
    right = 1.1 * (model(x).softmax(1) - F.one_hot(y, C)).float()
    np.testing.assert_allclose(found, right.detach(), atol=0.02)


def test_inputs_and_the_models_attributes_stay_as_they_were() -> None:
    model, x, y = seeded(InPlaceOnInputs), X[:60].clone(), Y[:60]
    array = x.numpy().copy()
    found = harness.per_sample_gradients(model, x, y)
    again = harness.per_sample_gradients(model, array, y)

    assert torch.equal(x, X[:60])
    np.testing.assert_array_equal(array, x)
    torch.testing.assert_close(found, again)
    (right,) = torch.autograd.grad(F.cross_entropy(model(x[:1].clone()), y[:1]), [model.norm.weight])
    torch.testing.assert_close(found["norm.weight"][0], right)
    assert model.last is None or np.isfinite(model.last.mean().item())


def test_tied_weights_go_by_any_of_their_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.decoder = nn.Embedding(9, D), nn.Linear(D, 9)
            self.decoder.weight = self.words.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.decoder(self.words(ids).mean(1))

    model, ids, y = seeded(Tied), tokens(8, 5, 9), torch.arange(8)

    by_head = harness.per_sample_gradients(model, ids, y, layers="decoder")
    by_both = harness.per_sample_gradients(model, ids, y)

    assert set(by_head) == {"decoder.weight", "decoder.bias"}
    assert set(by_both) == {"words.weight", "decoder.bias"}
    torch.testing.assert_close(by_head["decoder.weight"], by_both["words.weight"])


def test_nan_in_one_sample_is_no_reason_to_be_slow() -> None:
    model = seeded(lambda: nn.Sequential(nn.LayerNorm(D), nn.Linear(D, C)))
    x = X.clone()
    x[0] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = harness.per_sample_gradients(model, x, Y)
    assert found["1.weight"][0].isnan().any()
    assert found["1.weight"][1:].isfinite().all()


@pytest.mark.parametrize("kind", ["frozen", "checkpoint", "biases"])
def test_chunks_count_what_is_computed_and_not_saved(kind: str) -> None:
    """What a frozen body computes, a checkpoint computes again, and a bias keeps of its layer's input counts too."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, C)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = checkpoint(layer, x, use_reentrant=False) if kind == "checkpoint" else x + layer(x)
            return self.head(x.mean(1))

    model = seeded(Body)
    model.requires_grad_(kind == "checkpoint")
    counter = Activations(model.eval())
    with counter, torch.enable_grad():
        model(drawn(1, 256, 64))
    assert counter.bytes >= 6 * 256 * 64 * 4
