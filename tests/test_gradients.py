"""Every operation of both block kinds against the materialised matrix, over shapes, chunks and degenerate cases."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import random as sparse_random

from harness.errors import Unsupported
from harness.gradients import products
from harness.gradients.blocks import DenseBlock, OuterBlock
from harness.gradients.gradients import Gradients
from methods._curvature import LastLayerHessian, OuterProduct
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
    with mock.patch.object(products, "CHUNK_BYTES", chunk):
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
            torch.testing.assert_close(block.gram(slice(0, 1), slice(0, n)), full[:1] @ full.T)
            torch.testing.assert_close(block.gram(slice(0, n), slice(n // 2, n)), full @ full[n // 2 :].T)
            torch.testing.assert_close(block.rows(slice(0, 2)), full[:2])
            torch.testing.assert_close(block.columns([0, p - 1]), full[:, [0, p - 1]])
            for other in (OuterBlock(residuals[:2], features[:2]), DenseBlock(full[:2].clone())):
                torch.testing.assert_close(block.inner(other), full @ full[:2].T)
            which = torch.randint(0, 2, (n, 3), generator=generator)
            picked = full[:, [p - 1, 0]].gather(1, which)
            torch.testing.assert_close(block.entries(torch.tensor([p - 1, 0]), which), picked)
            torch.testing.assert_close(block.part(slice(0, 2)).rows(slice(None)), full[:2])
            torch.testing.assert_close(block.part([n - 1, 0]).rows(slice(None)), full[[n - 1, 0]])
            torch.testing.assert_close(OuterProduct(block).matrix(), full.T @ full / n)
            torch.testing.assert_close(OuterProduct(block).matvec(vectors), full.T @ (full @ vectors) / n)


@pytest.mark.parametrize("shape", [(3000, 3, 100), (2001, 10, 257), (70_000, 2, 5), (300, 4, 17)])
@pytest.mark.parametrize("m", [1, 3, 70])
@pytest.mark.parametrize("chunk", [products.CHUNK_BYTES, 100_000])
def test_float32_products(shape: tuple[int, int, int], m: int, chunk: int) -> None:
    """Errors of float32 products, which go through a convolution where a matrix is tall, against their terms' size."""
    outer_block = outer(*shape, dtype=torch.float32)
    n, p = outer_block.n, outer_block.dimension
    generator = torch.Generator().manual_seed(m)
    vectors, weights = (torch.randn(k, m, generator=generator, dtype=torch.float64) for k in (p, n))
    vectors[:, 0] *= 1e-60  # columns of any size
    weights[:, 0] *= 1e60
    dense = [DenseBlock(outer_block.rows(slice(None)))] if n * p < 10**7 else []
    with mock.patch.object(products, "CHUNK_BYTES", chunk):
        for block in (outer_block, *dense):
            full = block.rows(slice(None)).double()
            for precise, unit in ((False, 2e-6), (True, 3e-7)):  # the rows above are rounded to float32 themselves
                product, size = block.matvec(vectors, precise=precise), full.abs() @ vectors.abs()
                assert product.dtype == torch.float64
                assert float(((product - full @ vectors).abs() / size).max()) < unit
                product, size = block.rmatvec(weights, precise=precise), full.T.abs() @ weights.abs()
                assert product.dtype == torch.float64
                assert float(((product - full.T @ weights).abs() / size).max()) < unit
            torch.testing.assert_close(
                block.matvec(vectors[:, 0], precise=False), block.matvec(vectors, precise=False)[:, 0]
            )


def test_norms_beyond_float32s_squares() -> None:
    values = torch.tensor([[3e-30, 4e-30], [0.0, 0.0], [3e25, 4e25], [3.0, 4.0]])
    for block in (DenseBlock(values), OuterBlock(torch.ones(4, 1), values)):
        torch.testing.assert_close(
            block.norm(2), torch.tensor([5e-30, 0, 5e25, 5], dtype=torch.float64), rtol=1e-6, atol=0
        )


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
    with mock.patch.object(products, "CHUNK_BYTES", 300):
        np.testing.assert_allclose(both.project(matrix), full.numpy() @ matrix.toarray().T)
        np.testing.assert_allclose(both.part([2, 0]).project(matrix), full[[2, 0]].numpy() @ matrix.toarray().T)
    np.testing.assert_allclose(both.single().rows(slice(None)), full)
    assert Gradients({"a": a}).single() is a


def test_gradients_need_equally_long_blocks() -> None:
    with pytest.raises(ValueError, match="common number of samples"):
        Gradients({"a": outer(3, 2, 2), "b": outer(4, 2, 2)})


def test_last_layer_gradients_are_autograds() -> None:
    """The residual-times-feature formula against autograd, with and without bias, softmax and sigmoid."""
    from harness.interfaces.outputs import Outputs

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
    with mock.patch.object(products, "CHUNK_BYTES", 100):
        hessian = LastLayerHessian(OuterBlock(probs, h, probs))
        torch.testing.assert_close(hessian.matrix(), expected)
        vectors = torch.randn(c * d, 2, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(hessian.matvec(vectors), expected @ vectors)
        torch.testing.assert_close(hessian.matvec(vectors[:, 0]), expected @ vectors[:, 0])


def test_true_hessian_needs_a_last_layer() -> None:
    with pytest.raises(Unsupported, match="hessian=auto or outer_product"):
        LastLayerHessian(DenseBlock(torch.ones(3, 2)))
