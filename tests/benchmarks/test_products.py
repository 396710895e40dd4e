"""The two products that scores are made of, as 1 × 1 convolutions, against ``torch.mm``.

The floor is reading the tall matrix once (its ``sum()``, all threads).
"""

from __future__ import annotations

import pytest
import torch

from harness.gradients.products import times, transposed_times
from tests.benchmarks.conftest import Versus


@pytest.mark.parametrize("columns", [1, 10, 64])
@pytest.mark.parametrize("name", ["H V", "Zᵀ H"])
def test_thin_products(versus: Versus, name: str, columns: int) -> None:
    n, d = (50_000, 512) if versus.full else (700, 400)
    generator = torch.Generator().manual_seed(0)
    tall, thin, weights = (torch.randn(*s, generator=generator) for s in ((n, d), (d, columns), (n, columns)))
    forwards = name == "H V"
    found = versus(
        f"{name}, n={n:,} d={d}, {columns} columns",
        (lambda: times(tall, thin)) if forwards else (lambda: transposed_times(weights, tall)),
        (lambda: tall @ thin) if forwards else (lambda: weights.T @ tall),
        tall.sum,
        rounds=9,
    )
    exact = tall.double() @ thin.double() if forwards else weights.double().T @ tall.double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))
