"""Every operation of both block kinds against the materialised matrix, over shapes, chunks and degenerate cases."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import random as sparse_random

from harness import gradients
from harness.curvature import LastLayerHessian, OuterProduct
from harness.errors import Unsupported
from harness.gradients import DenseBlock, Gradients, OuterBlock
from tests.conftest import last_layer


def outer(n: int, c: int, d: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> OuterBlock:
    arrays = last_layer(n, c, d, seed)
    probs = torch.tensor(arrays["probs"], dtype=dtype)
    residuals = probs - torch.nn.functional.one_hot(torch.tensor(arrays["labels"]), c).to(dtype)
    return OuterBlock(residuals, torch.tensor(arrays["features"], dtype=dtype), probs)


def materialised(block: OuterBlock) -> torch.Tensor:
    return torch.stack(
        [torch.outer(e, h).flatten() for e, h in zip(block.residuals, block.features, strict=True)]
    ).double()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 13), c=st.integers(1, 4), d=st.integers(1, 5), m=st.integers(1, 3), chunk=st.sampled_from([1, 200])
)
def test_operations_equal_the_materialised_matrix(n: int, c: int, d: int, m: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(n * 1000 + c * 100 + d * 10 + m)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    residuals, features = random(n, c), random(n, d)
    features[0] = 0  # a zero gradient
    full = torch.einsum("nc,nd->ncd", residuals, features).flatten(1)
    p = c * d
    with mock.patch.object(gradients, "CHUNK_BYTES", chunk):
        for block in (OuterBlock(residuals, features), DenseBlock(full.clone())):
            assert (block.n, block.dimension) == (n, p)
            for order in (1, 2):
                torch.testing.assert_close(block.norm(order), full.norm(order, dim=1))
            torch.testing.assert_close(block.squared_norms(), (full**2).sum(1))
            vectors, weights = random(p, m), random(n, m)
            torch.testing.assert_close(block.matvec(vectors), full @ vectors)
            torch.testing.assert_close(block.matvec(vectors[:, 0]), full @ vectors[:, 0])
            torch.testing.assert_close(block.rmatvec(weights), full.T @ weights)
            torch.testing.assert_close(block.rmatvec(weights[:, 0]), full.T @ weights[:, 0])
            torch.testing.assert_close(block.gram(), full @ full.T)
            torch.testing.assert_close(block.gram(slice(0, 1)), full[:1] @ full.T)
            torch.testing.assert_close(block.rows(slice(0, 2)), full[:2])
            torch.testing.assert_close(block.columns([0, p - 1]), full[:, [0, p - 1]])
            torch.testing.assert_close(OuterProduct(block).matrix(), full.T @ full / n)
            torch.testing.assert_close(OuterProduct(block).matvec(vectors), full.T @ (full @ vectors) / n)


def test_float32_products_are_accumulated_in_float64() -> None:
    block = outer(4000, 3, 8, torch.float32)
    exact = materialised(block).sum(0)
    summed = block.rmatvec(torch.ones(block.n))
    assert summed.dtype == torch.float64
    torch.testing.assert_close(summed, exact, rtol=1e-6, atol=1e-6)


def test_blocks_side_by_side() -> None:
    a, b = (
        outer(7, 3, 4),
        DenseBlock(torch.randn(7, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))),
    )
    both = Gradients({"a": a, "b": b})
    full = torch.cat([materialised(a), b.values], 1)
    assert (both.n, both.dimension, list(both)) == (7, 18, ["a", "b"])
    np.testing.assert_allclose(both.norm(1), full.abs().sum(1))
    np.testing.assert_allclose(both.norm(2), full.norm(dim=1))
    np.testing.assert_allclose(both.rows([1, 5]), full[[1, 5]])
    matrix = sparse_random(5, 18, 0.3, random_state=0, format="csr")
    with mock.patch.object(gradients, "CHUNK_BYTES", 300):
        np.testing.assert_allclose(both.project(matrix), full.numpy() @ matrix.toarray().T)


def test_gradients_need_equally_long_blocks() -> None:
    with pytest.raises(ValueError, match="common number of samples"):
        Gradients({"a": outer(3, 2, 2), "b": outer(4, 2, 2)})


def test_last_layer_gradients_are_autograds() -> None:
    """The residual-times-feature formula against autograd, with and without bias, softmax and sigmoid."""
    from harness.outputs import Outputs

    for c, bias in ((1, True), (1, False), (3, True), (3, False)):
        torch_rng = torch.Generator().manual_seed(c)
        with torch.random.fork_rng():
            linear = torch.nn.Linear(5, c, bias=bias, dtype=torch.float64)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch_rng, dtype=torch.float64))
        h = torch.randn(6, 5, generator=torch_rng, dtype=torch.float64)
        y = torch.tensor([0, 1, 1, 0, 1, 0])
        logits = linear(h)
        probs = (logits.sigmoid() if c == 1 else logits.softmax(1)).detach()
        found = Outputs(y, probs, h, bias=bias).gradients()["head"].rows(slice(None))
        for i in range(6):
            loss = (
                torch.nn.functional.binary_cross_entropy_with_logits(linear(h[i])[0], y[i].double())
                if c == 1
                else torch.nn.functional.cross_entropy(linear(h[i]), y[i])
            )
            parts = torch.autograd.grad(loss, list(linear.parameters()))
            expected = torch.cat([g.view(c, -1) for g in parts], dim=1).flatten()  # class-major, bias as last feature
            torch.testing.assert_close(found[i], expected)


@pytest.mark.parametrize(("c", "d"), [(1, 4), (2, 3), (4, 3)])
def test_last_layer_hessian_is_autograds(c: int, d: int) -> None:
    generator = torch.Generator().manual_seed(c)
    weight = torch.randn(c, d, generator=generator, dtype=torch.float64)
    h = torch.randn(11, d, generator=generator, dtype=torch.float64)
    y = torch.randint(0, max(2, c), (11,), generator=generator)

    def loss(w: torch.Tensor) -> torch.Tensor:
        logits = h @ w.view(c, d).T
        if c == 1:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y.double())
        return torch.nn.functional.cross_entropy(logits, y)

    expected = torch.autograd.functional.hessian(loss, weight.flatten())
    logits = h @ weight.T
    probs = logits.sigmoid() if c == 1 else logits.softmax(1)
    with mock.patch.object(gradients, "CHUNK_BYTES", 100):
        hessian = LastLayerHessian(OuterBlock(probs, h, probs))
        torch.testing.assert_close(hessian.matrix(), expected)
        vectors = torch.randn(c * d, 2, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(hessian.matvec(vectors), expected @ vectors)
        torch.testing.assert_close(hessian.matvec(vectors[:, 0]), expected @ vectors[:, 0])


def test_true_hessian_needs_a_last_layer() -> None:
    with pytest.raises(Unsupported, match="hessian=outer_product"):
        LastLayerHessian(DenseBlock(torch.ones(3, 2)))
