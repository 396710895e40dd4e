"""Exact influence where samples are far fewer than parameters: eigenvectors instead of the parameters' matrix."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import harness
from harness.interfaces.view import View
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
    matrix = 16 * 60 * 60
    for room, solver in ((matrix, "eigenvectors"), (16 * 9 * 60, "eigenvectors"), (16 * 9 * 60 - 1, CG)):
        view = View.from_blocks({"a": g}, {"a": ref})
        with mock.patch.object(solvers, "FACTOR_BYTES", room):
            found = harness.method("exact_hessian").attribute(view)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
        assert view.health["a"]["solver"] == solver
    g, ref = gradients(50, 60)
    for room, solver in ((matrix, "cholesky"), (matrix - 1, "eigenvectors"), (16 * 50 * 60 - 1, CG)):
        view = View.from_blocks({"a": g}, {"a": ref})
        with mock.patch.object(solvers, "FACTOR_BYTES", room):
            harness.method("exact_hessian").attribute(view)
        assert view.health["a"]["solver"] == solver


CG = "conjugate_gradient"


@pytest.mark.parametrize(
    ("n", "p", "columns", "solver"),
    [
        (1_000, 5_120, 1_000, "cholesky"),
        (1_000, 5_140, 1_000, "cholesky"),  # no cliff where a table of sizes would have one
        (1_000, 12_000, 1_000, "cholesky"),
        (1_000, 30_000, 1, CG),  # its matrix does not fit
        (50_000, 5_120, 1, CG),
        (50_000, 5_120, 50_000, "cholesky"),
        (50_000, 300, 1, "cholesky"),
        (200, 10_000, 1, CG),
    ],
)
def test_the_way_follows_from_an_estimate_of_operations(n: int, p: int, columns: int, solver: str) -> None:
    """Of a true Hessian, which has no basis of its gradients; nothing is computed here."""
    curvature = mock.Mock(n=n, dimension=p)
    with mock.patch.object(solvers, "Factorised", return_value="cholesky"):
        found = solvers.factorised(curvature, 1e-3, columns) or CG
    assert found == solver


def test_what_does_not_converge_is_factorised_after_all() -> None:
    g, ref = gradients(50, 60)
    expected = harness.method("exact_hessian", damping=1e-9).score(View.from_blocks({"a": g}, {"a": ref}))
    view = View.from_blocks({"a": g}, {"a": ref})

    with mock.patch.object(solvers, "factorised", return_value=None):
        found = harness.method("exact_hessian", damping=1e-9).score(view)

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
    assert view.health["a"]["solver"] == "cholesky"


def test_without_memory_for_eigenvectors_conjugate_gradients_take_over() -> None:
    g, ref = gradients()
    expected = harness.method("exact_hessian").attribute(View.from_blocks({"a": g}, {"a": ref}))
    view = View.from_blocks({"a": g}, {"a": ref})
    with mock.patch.object(solvers.InEigenvectors, "__init__", side_effect=MemoryError()):
        found = harness.method("exact_hessian").attribute(view)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
    assert view.health["a"]["solver"] == "conjugate_gradient"
