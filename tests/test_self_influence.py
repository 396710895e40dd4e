"""Self-influence against loops and matrices in float64."""

from __future__ import annotations

import numpy as np
import pytest

import harness
from tests.closed_forms import SHAPES, brute, lam
from tests.conftest import last_layer, view_of


@pytest.mark.parametrize("shape", SHAPES)
def test_self_lissa_is_the_recursion_stopped_early(shape: tuple[int, int, int]) -> None:
    """T iterations through eigenvalues equal T iterations by the loop, where nothing has converged yet."""
    arrays = last_layer(*shape)
    g = brute(arrays, False)
    damping, scale = lam(g, "auto"), 0.03
    a = g.T @ g / len(g) + damping * np.eye(g.shape[1])
    r = scale * g.T
    for _ in range(15):
        r = scale * g.T + r - scale * a @ r
    ours = harness.method("self_lissa", iterations=15, tolerance=None, scale=scale).score(view_of(arrays))
    np.testing.assert_allclose(ours, (g * r.T).sum(1), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("damping", [1e-6, "auto", 10.0])
def test_self_lissa_stops_at_its_tolerance(shape: tuple[int, int, int], damping: float | str) -> None:
    """At the first iteration whose residual is small enough, and not one later; at the limit it says so."""
    arrays = last_layer(*shape)
    g = brute(arrays, False)
    a = g.T @ g / len(g) + lam(g, damping) * np.eye(g.shape[1])
    scale = 1 / (1.1 * np.linalg.eigvalsh(g.T @ g / len(g)).max() + lam(g, damping))
    view = view_of(arrays)
    ours = harness.method("self_lissa", tolerance=0.2, damping=damping, iterations=300).score(view)
    health = view.health["head"]
    spectrum = np.linalg.svd(g, compute_uv=False) ** 2 / len(g)  # directions that no gradient has do not count
    spectrum = spectrum if len(g) < g.shape[1] else np.linalg.eigvalsh(g.T @ g / len(g))
    slowest = np.abs(1 - scale * (spectrum + lam(g, damping))).max()
    done = health["iterations"]
    assert health["relative_residual"] == pytest.approx(slowest ** (done + 1), rel=1e-6)
    assert slowest ** (done + 1) <= 0.2 * (1 + 1e-9) or done == 300
    assert done == 0 or slowest**done > 0.2
    assert health["converged"] == (health["relative_residual"] <= 0.2)
    r = scale * g.T
    for _ in range(done):
        r = scale * g.T + r - scale * a @ r
    np.testing.assert_allclose(ours, (g * r.T).sum(1), rtol=1e-8)


def test_self_influence_declines_what_it_cannot_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods._solvers.FACTOR_BYTES", 0)
    view = view_of(last_layer(20, 3, 4))
    assert np.isfinite(harness.method("self_influence").score(view)).all()
    monkeypatch.setattr("methods.self_influence.MOST_WORK", 20 * 20 * 12 - 1)
    with pytest.raises(harness.Unsupported, match="20 systems of 12 unknowns are too many"):
        harness.method("self_influence").score(view_of(last_layer(20, 3, 4)))


def test_self_influence_on_the_head_alone_is_the_published_way() -> None:
    for name in ("self_influence", "self_datainf", "self_lissa"):
        assert harness.method(name, protocol="paper").layers == "last"
        assert harness.method(name).layers == "all"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_self_datainf_of_parallel_gradients(dtype: type) -> None:
    """What is left of |g|² is a ten-thousandth of it, which float32's products alone would not give."""
    rng = np.random.default_rng(0)
    direction, lengths = rng.standard_normal(700), rng.uniform(0.5, 2, 40)
    gradients = np.outer(lengths, direction).astype(dtype)
    found = harness.method("self_datainf").score(harness.View.from_blocks({"g": gradients}))
    exact = gradients.astype(np.float64)
    squared = (exact**2).sum(1)
    damping = (exact**2).mean() / 10
    shared = ((exact @ exact.T) ** 2 / (damping + squared)).mean(1)
    np.testing.assert_allclose(found, (squared - shared) / damping, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-14, 1.0, 1e12])
def test_self_datainf_of_gradients_of_any_size(size: float) -> None:
    """The score does not change when all gradients are multiplied, at the automatic damping."""
    values = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float32)
    expected = harness.method("self_datainf").score(harness.View.from_blocks({"g": values.astype(np.float64)}))
    found = harness.method("self_datainf").score(harness.View.from_blocks({"g": (values * np.float32(size))}))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
