"""The softmax regression of a probe: its optimum is scikit-learn's, whatever is trained beside it or before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks import _softmax_head as heads
from tasks._preconditioned import Head, Preconditioned, Spectrum
from tasks._softmax_head import fit


def problem(n: int = 400, d: int = 12, c: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated features far from the origin, and labels of which a fifth is wrong."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) @ (torch.randn(d, d, generator=generator) / 3) + 2
    y = (x @ torch.randn(d, c, generator=generator)).argmax(1)
    wrong = torch.rand(n, generator=generator) < 0.2
    y[wrong] = torch.randint(0, c, (int(wrong.sum()),), generator=generator)
    return x, y


def fitted(
    x: Tensor, y: Tensor, keeps: Tensor, penalty: float, tolerance: float = 1e-6, start: Head | None = None
) -> list[Head]:
    data = Preconditioned(x, Spectrum.of(x), penalty)
    return fit(data, y, keeps, int(y.max()) + 1, torch.full((len(keeps),), penalty), tolerance, start)


def sklearn_probs(x: Tensor, y: Tensor, keep: Tensor, penalty: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    kept = keep.numpy()
    model = LogisticRegression(C=1 / (penalty * kept.sum()), tol=1e-10, max_iter=20_000)
    model.fit(x.double().numpy()[kept], y.numpy()[kept])
    return np.asarray(model.predict_proba(x.double().numpy()))


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-5])
def test_the_optimum_is_scikit_learns(penalty: float) -> None:
    x, y = problem()
    keeps = torch.stack([torch.ones(400, dtype=torch.bool), torch.arange(400) % 3 > 0])

    made = fitted(x, y, keeps, penalty)

    for head, keep in zip(made, keeps, strict=True):
        expected = sklearn_probs(x, y, keep, penalty)
        np.testing.assert_allclose(head.logits(x).softmax(1).numpy(), expected, atol=1e-5)
        assert head.gradient_norm <= 1e-6


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_one_hot_features(penalty: float) -> None:
    """Features that sum to one, classes that some features tell apart without an error: steps are far from 1."""
    generator = torch.Generator().manual_seed(0)
    category = torch.randint(0, 24, (120,), generator=generator)
    x, y = torch.nn.functional.one_hot(category, 24).float(), category % 3
    y[:10] = (y[:10] + 1) % 3
    keep = torch.arange(120) % 7 > 0
    everything = keep.unsqueeze(0)

    (head,) = fitted(x, y, everything, penalty, 1e-7)

    np.testing.assert_allclose(head.logits(x).softmax(1).numpy(), sklearn_probs(x, y, keep, penalty), atol=2e-4)
    spectrum = Spectrum.of(x)
    few = fit(Preconditioned(x, spectrum, 1e-3), y, keep.expand(5, -1), 3, 10.0 ** torch.arange(0, -5, -1), 1e-3)
    assert max(head.iterations for head in few) < 100


def test_features_that_tell_nothing() -> None:
    """Three different samples with labels half and half: the gradient at zero weights is rounding already."""
    x = torch.tensor([[1.4, 0.2], [1.5, 0.3], [1.4, 0.4]]).repeat(40, 1)
    y = torch.arange(120) // 3 % 2
    (head,) = fitted(x, y, torch.ones(1, 120, dtype=torch.bool), 1e-4, 1e-4)
    np.testing.assert_allclose(head.logits(x).softmax(1).numpy(), 0.5, atol=1e-3)


def test_the_gradient_vanishes_by_autograd() -> None:
    """The reported norm is that of the objective's gradient, in the coordinates of the optimiser."""
    x, y = problem()
    (head,) = fitted(x, y, torch.ones(1, 400, dtype=torch.bool), 1e-2, 1e-8)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x.double() @ weight.T + bias, y) + 0.005 * weight.square().sum()
    gradients = torch.autograd.grad(loss, [weight, bias])

    zero = torch.autograd.grad(
        torch.nn.functional.cross_entropy(x.double() @ (0 * weight).T + 0 * bias, y), [weight, bias], allow_unused=True
    )
    assert zero is not None
    assert max(float(g.abs().max()) for g in gradients) < 1e-6


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_heads_do_not_depend_on_their_company(tolerance: float) -> None:
    x, y = problem()
    generator = torch.Generator().manual_seed(1)
    keeps = torch.rand(7, 400, generator=generator) < 0.8

    together = fitted(x, y, keeps, 1e-2, tolerance)
    alone = [fitted(x, y, keep[None], 1e-2, tolerance)[0] for keep in keeps]

    for ours, theirs in zip(together, alone, strict=True):
        gap = (ours.logits(x).softmax(1) - theirs.logits(x).softmax(1)).abs().max()
        assert float(gap) < 10 * tolerance


def test_a_warm_start_ends_at_the_same_optimum() -> None:
    x, y = problem()
    everything = torch.ones(1, 400, dtype=torch.bool)
    keep = (torch.arange(400) % 10 > 0)[None]
    (base,) = fitted(x, y, everything, 1e-2, 1e-8)

    (cold,), (warm,) = fitted(x, y, keep, 1e-2, 1e-8), fitted(x, y, keep, 1e-2, 1e-8, base)

    np.testing.assert_allclose(warm.logits(x).softmax(1), cold.logits(x).softmax(1), atol=1e-6)
    assert warm.iterations < cold.iterations


def test_many_heads_are_trained_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem()
    keeps = torch.rand(5, 400, generator=torch.Generator().manual_seed(2)) < 0.7
    whole = fitted(x, y, keeps, 1e-2)

    monkeypatch.setattr(heads, "TOGETHER_BYTES", 2 * 4 * 400 * 4)

    for ours, theirs in zip(fitted(x, y, keeps, 1e-2), whole, strict=True):
        np.testing.assert_allclose(ours.logits(x), theirs.logits(x), atol=1e-4)


def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem()
    with pytest.raises(ValueError, match="a kept set is empty"):
        fitted(x, y, torch.zeros(1, 400, dtype=torch.bool), 1e-2)
    monkeypatch.setattr(heads, "MOST_ITERATIONS", 2)
    with pytest.raises(ValueError, match=r"gradient norm is .* after 2 iterations, and tolerance=1e-06; give a larger"):
        fitted(x, y, torch.ones(1, 400, dtype=torch.bool), 1e-2)
