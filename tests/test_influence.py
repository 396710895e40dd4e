"""Influence functions against closed forms and loops in float64."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

import harness
from methods import _solvers as solvers
from methods._curvature import OuterProduct
from tests.closed_forms import SHAPES, brute, lam, softmax_hessian
from tests.conftest import last_layer, view_of

LAMBDAS = [1e-6, 1e-3, 0.1, "auto"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("damping", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hessian", ["exact", "outer_product"])
def test_exact_influence(shape: tuple[int, int, int], damping: float | str, bias: bool, hessian: str) -> None:
    arrays = last_layer(*shape)
    g, ref = brute(arrays, bias), brute(arrays, bias, "reference_")
    matrix = softmax_hessian(arrays, bias) if hessian == "exact" else g.T @ g / len(g)
    inverse = np.linalg.inv(matrix + lam(g, damping) * np.eye(len(matrix)))
    method = harness.method("exact_hessian", damping=damping, hessian=hessian)
    view = view_of(arrays, bias=bias)
    tolerance = {"rtol": 1e-6, "atol": 1e-8 * np.abs(inverse).max()}
    np.testing.assert_allclose(method.score(view), -g @ inverse @ ref.mean(0), **tolerance)
    np.testing.assert_allclose(method.attribute(view), -ref @ inverse @ g.T, **tolerance)
    itself = harness.method("self_influence", damping=damping, hessian=hessian).score(view)
    np.testing.assert_allclose(itself, np.einsum("ip,pq,iq->i", g, inverse, g), **tolerance)
    smallest = view.health["head"]["smallest_eigenvalue"]
    assert abs(smallest - np.linalg.eigvalsh(matrix)[0]) < 1e-3 * np.linalg.eigvalsh(matrix)[-1]


@pytest.mark.parametrize("damping", [1e-3, "auto"])
@pytest.mark.parametrize("shape", SHAPES)
def test_beyond_the_direct_dimension_conjugate_gradients_agree(
    shape: tuple[int, int, int], damping: float | str
) -> None:
    arrays = last_layer(*shape)
    for name in ("exact_hessian", "self_influence"):
        method = harness.method(name, damping=damping)
        direct = method.score(view_of(arrays))
        with mock.patch.object(solvers, "FACTOR_BYTES", 0):
            view = view_of(arrays)
            iterated = method.score(view)
        np.testing.assert_allclose(iterated, direct, rtol=1e-5, atol=1e-7 * np.abs(direct).max())
        assert view.health["head"]["solver"] == "conjugate_gradient"
        assert view.health["head"]["converged"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_where_memory_does_not_suffice_conjugate_gradients_take_over(error: Exception) -> None:
    arrays = last_layer(*SHAPES[0])
    for name in ("exact_hessian", "self_influence"):
        direct = harness.method(name).score(view_of(arrays))
        with mock.patch.object(solvers.Factorised, "__init__", side_effect=error):
            view = view_of(arrays)
            iterated = harness.method(name).score(view)
        np.testing.assert_allclose(iterated, direct, rtol=1e-5, atol=1e-7 * np.abs(direct).max())
        assert view.health["head"]["solver"] == "conjugate_gradient"
    with (
        mock.patch.object(solvers.Factorised, "__init__", side_effect=RuntimeError("another fault")),
        pytest.raises(RuntimeError, match="another fault"),
    ):
        harness.method("exact_hessian").score(view_of(arrays))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("damping", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_datainf(shape: tuple[int, int, int], damping: float | str, bias: bool) -> None:
    arrays = last_layer(*shape)
    g, ref = brute(arrays, bias), brute(arrays, bias, "reference_")
    value, n = lam(g, damping), len(g)
    inverse = sum(np.linalg.inv(value * np.eye(g.shape[1]) + np.outer(row, row)) for row in g) / n
    view = view_of(arrays, bias=bias)
    method = harness.method("datainf", damping=damping)
    tolerance = {"rtol": 1e-6, "atol": 1e-9 * np.abs(inverse).max()}
    np.testing.assert_allclose(method.score(view), -g @ inverse @ ref.mean(0), **tolerance)
    np.testing.assert_allclose(method.attribute(view), -ref @ inverse @ g.T, **tolerance)
    np.testing.assert_allclose(
        harness.method("self_datainf", damping=damping).score(view),
        np.einsum("ip,pq,iq->i", g, inverse, g),
        **tolerance,
    )


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("damping", [1e-2, "auto"])
@pytest.mark.parametrize("shape", SHAPES)
def test_lissa_converges_to_the_damped_inverse(
    shape: tuple[int, int, int], damping: float | str, spectral: bool
) -> None:
    import methods.influence

    arrays = last_layer(*shape)
    g, ref = brute(arrays, False), brute(arrays, False, "reference_")
    inverse = np.linalg.inv(g.T @ g / len(g) + lam(g, damping) * np.eye(g.shape[1]))
    view = view_of(arrays)
    settings = {"damping": damping, "tolerance": 1e-9, "iterations": 200_000}
    with mock.patch.object(methods.influence, "SPECTRAL_DIMENSION", 10_000 if spectral else 0):
        scores = harness.method("lissa", **settings).score(view)
    expected = -g @ inverse @ ref.mean(0)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
    assert view.health["head"]["converged"]
    itself = harness.method("self_lissa", **settings).score(view_of(arrays))
    expected = np.einsum("ip,pq,iq->i", g, inverse, g)
    np.testing.assert_allclose(itself, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize(("sign", "scale"), [(1, 0.3), (-1, 0.3), (-1, 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_lissa_is_its_loop_stopped_early(
    shape: tuple[int, int, int], sign: int, scale: float, spectral: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import methods.influence

    monkeypatch.setattr(methods.influence, "SPECTRAL_DIMENSION", 10_000 if spectral else 0)
    arrays = last_layer(*shape)
    g, ref = brute(arrays, False), brute(arrays, False, "reference_")
    damping, v = lam(g, "auto"), ref.T
    r = scale * v
    for _ in range(17):
        r = scale * v + r - scale * (g.T @ (g @ r) / len(g) + sign * damping * r)
    residual = scale * v - scale * (g.T @ (g @ r) / len(g) + sign * damping * r)
    view = view_of(arrays)
    settings = {"scale": scale, "damping_sign": sign, "iterations": 17, "tolerance": None}
    found = harness.method("lissa", **settings).attribute(view)
    np.testing.assert_allclose(found, -(g @ r).T, rtol=1e-9, atol=1e-9 * np.abs(g @ r).max())
    health = view.health["head"]
    assert (health["iterations"], health["dimension"]) == (17, g.shape[1])
    worst = (np.linalg.norm(residual, axis=0) / np.linalg.norm(scale * v, axis=0)).max()
    assert health["relative_residual"] == pytest.approx(worst)


def test_lissa_says_when_it_did_not_converge() -> None:
    view = view_of(last_layer(40, 3, 4))
    harness.method("lissa", iterations=2).score(view)
    health = view.health["head"]
    assert not health["converged"]
    assert health["iterations"] == 2
    assert health["relative_residual"] > 1e-3


def test_one_sample_lissa_is_its_loop() -> None:
    """The closed recursion of ``curvature=sample`` against vectors, with the right and the wrong sign of damping."""
    arrays = last_layer(12, 3, 4)
    g = brute(arrays, False)
    for sign in (1, -1):
        expected = []
        for row in g:
            damping = sign * (row**2).mean() / 10
            r = row.copy()
            for _ in range(10):
                r = row + r - (row * (row @ r) + damping * r)
            expected.append(r @ row)
        method = harness.method(
            "self_lissa", curvature="sample", damping_sign=sign, scale=1.0, iterations=10, tolerance=None
        )
        np.testing.assert_allclose(method.score(view_of(arrays)), expected, rtol=1e-9)


def test_gradient_tracing_and_norms() -> None:
    arrays = last_layer(30, 3, 4)
    g, ref = brute(arrays, True), brute(arrays, True, "reference_")
    view = view_of(arrays, bias=True)
    np.testing.assert_allclose(harness.method("gradient_tracing").score(view), -g @ ref.mean(0))
    np.testing.assert_allclose(harness.method("gradient_tracing").attribute(view), -ref @ g.T)
    np.testing.assert_allclose(harness.method("gradient_tracing[sign=-1]").score(view), g @ ref.mean(0))
    np.testing.assert_allclose(harness.method("gradient_tracing[reference=train]").score(view), -g @ g.mean(0))
    np.testing.assert_allclose(harness.method("outlier_l1").score(view), np.abs(g).sum(1))
    np.testing.assert_allclose(harness.method("outlier_l2").score(view), np.linalg.norm(g, axis=1))


def test_datainf_of_parallel_gradients() -> None:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(3000)
    train, reference = (np.outer(rng.uniform(0.5, 2, n), direction).astype(np.float32) for n in (50, 5))
    found, expected = (
        harness.method("datainf").score(harness.View.from_blocks({"g": train.astype(t)}, {"g": reference.astype(t)}))
        for t in (np.float32, np.float64)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(40, 2, 3), (300, 5, 20), (3, 3, 9)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_lanczos_finds_the_largest_eigenvalue(shape: tuple[int, int, int], scale: float) -> None:
    """In ten products, to a per cent; from gradients of any size, and of fewer samples than ten."""
    arrays = last_layer(*shape)
    arrays["features"] *= scale
    g = brute(arrays, False)
    (block,) = view_of(arrays).gradients.values()

    found = solvers.largest_eigenvalue(OuterProduct(block), torch.device("cpu"))

    largest = np.linalg.eigvalsh(g.T @ g / shape[0])[-1]
    assert 0.99 * largest <= found <= (1 + 1e-9) * largest


def test_lanczos_of_zero_gradients() -> None:
    arrays = last_layer(20, 3, 4)
    arrays["features"][:] = 0
    (block,) = view_of(arrays).gradients.values()

    assert solvers.largest_eigenvalue(OuterProduct(block), torch.device("cpu")) == 0
