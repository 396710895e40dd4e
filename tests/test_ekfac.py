"""EK-FAC against the matrix that it stands for, and against the exact inverse where the two are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import harness
from tests.closed_forms import brute, lam
from tests.conftest import last_layer, view_of


def kronecker(arrays: dict[str, np.ndarray], hessian: str) -> np.ndarray:
    """The curvature that EK-FAC inverts, (c d, c d), by its definition and a loop over samples."""
    h, p, y = (arrays[name] for name in ("features", "probs", "labels"))
    n, c = p.shape
    e = p - np.eye(c)[y]
    covariances = [
        np.diag(q) - np.outer(q, q) if hessian == "exact" else np.outer(r, r) for q, r in zip(p, e, strict=True)
    ]
    u = np.linalg.eigh(np.mean(covariances, axis=0))[1]
    v = np.linalg.eigh(h.T @ h / n)[1]
    basis = np.kron(u, v)
    full = np.mean([np.kron(a, np.outer(x, x)) for a, x in zip(covariances, h, strict=True)], axis=0)
    return basis @ np.diag(np.diag(basis.T @ full @ basis)) @ basis.T


@pytest.mark.parametrize("hessian", ["exact", "outer_product"])
@pytest.mark.parametrize("damping", [1e-4, "auto"])
@pytest.mark.parametrize("shape", [(40, 2, 3), (25, 4, 5), (6, 3, 7)])
def test_ekfac_is_the_curvatures_diagonal_in_the_factors_eigenvectors(
    shape: tuple[int, int, int], damping: Any, hessian: str
) -> None:
    arrays = last_layer(*shape)
    view, g, reference = view_of(arrays), brute(arrays, False), brute(arrays, False, "reference_")
    matrix = kronecker(arrays, hessian)
    inverse = np.linalg.inv(matrix + lam(g, damping) * np.eye(len(matrix)))
    options = {"damping": damping, "hessian": hessian}

    influence = harness.method("ekfac_influence", **options)
    own = harness.method("ekfac_self_influence", **options).score(view)

    np.testing.assert_allclose(influence.score(view), -g @ inverse @ reference.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(influence.attribute(view), -reference @ inverse @ g.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(own, np.einsum("ij,jk,ik->i", g, inverse, g), rtol=1e-6)


@pytest.mark.parametrize("damping", [1e-6, 1e-2])
def test_ekfac_is_exact_where_the_curvature_is_a_kronecker_product(damping: float) -> None:
    """Equal probabilities for all samples: the true Hessian is (diag p − ppᵀ) ⊗ HᵀH/n."""
    arrays = last_layer(30, 3, 4)
    arrays["probs"] = np.tile([0.5, 0.3, 0.2], (30, 1))
    view = view_of(arrays)

    for name, exact in (("ekfac_influence", "exact_hessian"), ("ekfac_self_influence", "self_influence")):
        scores = harness.method(name, damping=damping).score(view)
        expected = harness.method(exact, damping=damping).score(view)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_one_sigmoid_output() -> None:
    arrays = last_layer(30, 2, 4)
    whole = view_of(arrays)
    single = {name: values[:, 1:] if name.endswith("probs") else values for name, values in arrays.items()}

    scores = harness.method("ekfac_self_influence", damping=1e-2).score(view_of(single))

    weights = arrays["probs"][:, 1] * arrays["probs"][:, 0]
    h, e = arrays["features"], arrays["probs"][:, 1] - arrays["labels"]
    v = np.linalg.eigh(h.T @ h / 30)[1]
    values = (weights[:, None] * (h @ v) ** 2).mean(0)
    np.testing.assert_allclose(scores, e**2 * ((h @ v) ** 2 / (values + 1e-2)).sum(1), rtol=1e-6)
    assert whole.n == 30


def test_layers_without_factors_are_declined() -> None:
    dense = harness.View.from_blocks({"a": brute(last_layer(20, 3, 4), False)}, labels=np.zeros(20, dtype=int))

    with pytest.raises(harness.Unsupported, match="EK-FAC needs a layer's inputs and output gradients"):
        harness.method("ekfac_self_influence").score(dense)


def test_flips_of_digits_are_found() -> None:
    """Of 10 % flipped labels, at least 70 % are among the first 10 %."""
    recalls = []
    for seed in range(3):
        task = harness.task("digits")
        split, truth = task.load(seed)
        view = task.view(task.train(split, None, seed), split)
        scores = harness.method("ekfac_self_influence").score(view)
        wrong = truth != view.labels
        recalls.append(wrong[np.argsort(-scores)[: wrong.sum()]].mean())

    assert min(recalls) >= 0.7
