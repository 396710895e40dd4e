"""Exact influence where samples are far fewer than parameters: eigenvectors instead of the parameters' matrix."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import harness
from harness.view import View
from methods import _solvers as solvers


def gradients(n: int = 9, p: int = 60, rank: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Training and reference gradients; the latter lie partly outside the former's span."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(n, p)) * rng.lognormal(sigma=2, size=(n, 1))
    if rank is not None:
        g = g[rng.integers(0, rank, n)]  # some samples several times
    return g, rng.normal(size=(5, p))


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("damping", [1e-6, 1e-2, "auto"])
def test_it_is_the_inverse_of_the_parameters_matrix(damping: float | str, rank: int | None) -> None:
    g, ref = gradients(rank=rank)
    lam = (g**2).mean() / 10 if damping == "auto" else damping
    inverse = np.linalg.inv(g.T @ g / len(g) + lam * np.eye(g.shape[1]))
    view = View.from_blocks({"a": g}, {"a": ref})
    method = harness.method("exact_hessian", damping=damping)
    tolerance = {"rtol": 1e-7, "atol": 1e-12 * np.abs(g).max() * np.abs(ref).max() / lam}
    np.testing.assert_allclose(method.attribute(view), -ref @ inverse @ g.T, **tolerance)
    np.testing.assert_allclose(method.score(view), -(ref @ inverse @ g.T).mean(0), **tolerance)
    itself = harness.method("self_influence", damping=damping).score(view)
    expected = np.einsum("ip,pq,iq->i", g, inverse, g)
    np.testing.assert_allclose(itself, expected, rtol=1e-6, atol=1e-12 * (g**2).sum(1).max() / lam)
    assert view.health["a"]["solver"] == "eigenvectors"
    assert view.health["a"]["dimension"] == 60
    assert view.health["a"]["smallest_eigenvalue"] == 0


def test_self_influence_at_tiny_damping_is_n_of_independent_samples() -> None:
    """λ → 0: g_iᵀ F⁺ g_i = n for linearly independent gradients, which the parameters' matrix is too coarse to give."""
    g, _ = gradients()
    found = harness.method("self_influence", damping=1e-10).score(View.from_blocks({"a": g}))
    np.testing.assert_allclose(found, len(g), rtol=1e-6)


@pytest.mark.parametrize(("n", "p"), [(9, 60), (30, 60), (100, 60)])
def test_single_precision_gradients_at_small_damping(n: int, p: int) -> None:
    """What no gradient has is divided by λ alone, and must not come back by rounding."""
    g, ref = (part.astype(np.float32) for part in gradients(n, p))
    wide, asked = g.astype(float), ref.astype(float)
    inverse = np.linalg.inv(wide.T @ wide / n + 1e-4 * np.eye(p))
    found = harness.method("exact_hessian", damping=1e-4).attribute(View.from_blocks({"a": g}, {"a": ref}))
    expected = -asked @ inverse @ wide.T
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "p", "solver"), [(9, 36, "eigenvectors"), (10, 36, "cholesky"), (40, 36, "cholesky")])
def test_which_is_the_less_work(n: int, p: int, solver: str) -> None:
    g, ref = gradients(n, p)
    view = View.from_blocks({"a": g}, {"a": ref})
    harness.method("exact_hessian").score(view)
    assert view.health["a"]["solver"] == solver


def test_beyond_the_direct_dimension_few_samples_suffice() -> None:
    g, ref = gradients(9, 60)
    expected = harness.method("exact_hessian").attribute(View.from_blocks({"a": g}, {"a": ref}))
    for limit, solver in ((59, "eigenvectors"), (17, "eigenvectors"), (0, "eigenvectors")):
        view = View.from_blocks({"a": g}, {"a": ref})
        with mock.patch.object(solvers, "DIRECT_DIMENSION", limit):
            found = harness.method("exact_hessian").attribute(view)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert view.health["a"]["solver"] == solver
    g, ref = gradients(20, 60)
    for limit, solver in ((60, "cholesky"), (59, "eigenvectors"), (39, "conjugate_gradient")):
        view = View.from_blocks({"a": g}, {"a": ref})
        with mock.patch.object(solvers, "DIRECT_DIMENSION", limit):
            harness.method("exact_hessian").attribute(view)
        assert view.health["a"]["solver"] == solver


def test_without_memory_for_eigenvectors_conjugate_gradients_take_over() -> None:
    g, ref = gradients()
    expected = harness.method("exact_hessian").attribute(View.from_blocks({"a": g}, {"a": ref}))
    view = View.from_blocks({"a": g}, {"a": ref})
    with mock.patch.object(solvers.InEigenvectors, "__init__", side_effect=MemoryError()):
        found = harness.method("exact_hessian").attribute(view)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
    assert view.health["a"]["solver"] == "conjugate_gradient"
