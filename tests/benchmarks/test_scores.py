"""Scores from gradients as operators, against loops over a dictionary of per-sample gradients.

The loops are written for this comparison, in the way the reference influence engine works: each sample's gradient is a
tensor of its own, and sums over samples are Python loops. Run with ``tox -e bench`` and read the ratios in brackets;
seconds depend on the machine and are asserted nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import harness
from tests.conftest import last_layer

N, C, D = 1000, 10, 64


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    made = last_layer(N, C, D, n_ref=100)
    return {name: values.astype(np.float32) if values.dtype == np.float64 else values for name, values in made.items()}


@pytest.fixture(scope="module")
def by_sample(arrays: dict[str, np.ndarray]) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    view = harness.View.from_arrays(**arrays)
    rows = view.gradients.rows(slice(None))
    return {i: row.view(C, D) for i, row in enumerate(rows)}, view.reference("validation").gradients.rows(slice(None))


def datainf_loop(gradients: dict[int, torch.Tensor], v: torch.Tensor) -> np.ndarray:
    damping = sum(float((g**2).mean()) for g in gradients.values()) / len(gradients) / 10
    u = torch.zeros_like(v)
    for g in gradients.values():
        u += (v - (v * g).sum() / (damping + (g**2).sum()) * g) / (len(gradients) * damping)
    return np.array([-float((u * g).sum()) for g in gradients.values()])


def lissa_loop(gradients: dict[int, torch.Tensor], v: torch.Tensor, iterations: int = 10) -> np.ndarray:
    damping = sum(float((g**2).mean()) for g in gradients.values()) / len(gradients) / 10
    r = v.clone()
    for _ in range(iterations):
        curved = torch.zeros_like(v)
        for g in gradients.values():
            curved += ((g * r).sum() * g - damping * r) / len(gradients)
        r = v + r - curved
    return np.array([-float((r * g).sum()) for g in gradients.values()])


LOOPS = {"datainf": datainf_loop, "lissa": lissa_loop}
OURS = {"datainf": "datainf", "lissa": "lissa[damping_sign=-1,scale=1,iterations=10,tolerance=none]"}


@pytest.mark.parametrize("name", LOOPS)
def test_loop(benchmark: Any, by_sample: Any, name: str) -> None:
    benchmark.group = f"{name}, n={N}, c={C}, d={D}"
    gradients, references = by_sample
    benchmark.pedantic(LOOPS[name], (gradients, references.mean(0).view(C, D)), rounds=3)


@pytest.mark.parametrize("name", LOOPS)
def test_operators(benchmark: Any, arrays: dict[str, np.ndarray], by_sample: Any, name: str) -> None:
    benchmark.group = f"{name}, n={N}, c={C}, d={D}"
    method, view = harness.method(OURS[name]), harness.View.from_arrays(**arrays)
    scores = benchmark.pedantic(method.score, (view,), rounds=20, warmup_rounds=1)
    gradients, references = by_sample
    expected = LOOPS[name](gradients, references.mean(0).view(C, D))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
