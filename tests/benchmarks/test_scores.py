"""Scores of a CIFAR-10 head, n = 50,000, c = 10, d = 512, against loops over a dictionary of gradients.

The floor is the time that reading the features takes, as often as the method needs them (``features.sum()``, all
threads): DataInf for norms, G v, Gᵀ w and G u; LiSSA for norms, two products an iteration, two for its residual, and
the scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.random_projection import SparseRandomProjection

import harness
from tests.benchmarks import usual
from tests.benchmarks.conftest import ROWS, Row, Versus, extra_mib

CASES = {
    "datainf": ("datainf", usual.datainf, 4),
    "lissa": ("lissa[damping_sign=-1,scale=1,iterations=10,tolerance=none]", usual.lissa, 24),
}


def head(n: int, c: int, d: int) -> dict[str, np.ndarray]:
    """Rectified features and confident probabilities, as a trained network gives, with 1,000 reference samples."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        features = np.maximum(rng.standard_normal((count, d), dtype=np.float32), 0)
        logits = 3 * rng.standard_normal((count, c), dtype=np.float32)
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return features, probs, rng.integers(0, c, count)

    names = ("features", "probs", "labels")
    train = dict(zip(names, part(n), strict=True))
    return train | {f"reference_{name}": values for name, values in zip(names, part(min(n, 1000)), strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_against_loops(versus: Versus, name: str) -> None:
    n, c, d = (50_000, 10, 512) if versus.full else (300, 4, 9)
    spec, loop, reads = CASES[name]
    view = harness.View.from_arrays(**head(n, c, d))
    block = view.gradients["head"]
    gradients = {i: {"head": g} for i, part in enumerate(block.rows(slice(None)).split(1)) for g in [part.view(c, d)]}
    reference = {"head": view.reference("validation").gradients.rows(slice(None)).mean(0).view(c, d)}
    features, method = view.features, harness.method(spec)
    expected: list[np.ndarray] = []

    def floor() -> None:
        for _ in range(reads):
            features.sum()

    scores = versus(
        f"{name}, n={n:,} c={c} d={d}",
        lambda: method.score(view),
        lambda: expected.append(loop(gradients, reference)),
        floor,
        rounds=7 if name == "datainf" else 3,
    )
    if not expected:
        expected.append(loop(gradients, reference))
    # the loops add up 50,000 float32 terms one by one, and this recursion multiplies what they lose
    np.testing.assert_allclose(scores, expected[0], rtol=5e-3, atol=5e-3 * np.abs(expected[0]).max())


def test_isolation_forest(versus: Versus) -> None:
    n, c, d = (50_000, 10, 512) if versus.full else (400, 3, 5)
    view = harness.View.from_arrays(**head(n, c, d), seed=3)
    found: list[np.ndarray] = []

    def materialised() -> None:
        points = view.gradients.rows(slice(None)).numpy()
        found.append(-IsolationForest(random_state=3).fit(points).score_samples(points))

    method = harness.method("outlier_iforest")
    scores = versus(f"isolation forest, n={n:,} p={c * d:,}", lambda: method.score(view), materialised)
    if not found:
        materialised()
    np.testing.assert_array_equal(scores, found[0])


def test_isolation_forest_of_cifar100s_shape(benchmark: Any) -> None:
    """n = 50,000, c = 100, d = 512: 51,200 numbers a sample, 10 GB of them, projected to 9,274 (1.9 GB)."""
    full = not benchmark.disabled
    n, c, d = (50_000, 100, 512) if full else (60, 101, 100)
    arrays = {name: values for name, values in head(n, c, d).items() if "reference" not in name}
    view, method = harness.View.from_arrays(**arrays, seed=3), harness.method("outlier_iforest")
    view.gradients  # noqa: B018 - extracted before the memory is looked at
    benchmark.group = f"isolation forest, n={n:,} p={c * d:,}, projected"
    scores: list[np.ndarray] = []
    if full:
        extra = benchmark.pedantic(lambda: extra_mib(lambda: scores.append(method.score(view))), rounds=1)
        ROWS.append(Row(benchmark.group, benchmark.stats.stats.min, extra_mib=extra))
    else:
        scores.append(method.score(view))
        points = SparseRandomProjection(random_state=3).fit_transform(view.gradients.rows(slice(None)).numpy())
        expected = -IsolationForest(random_state=3).fit(points).score_samples(points)
        np.testing.assert_array_equal(scores[0], expected)
    assert np.isfinite(scores[0]).all()


@pytest.mark.parametrize("name", ["outlier_l1", "outlier_l2", "gradient_tracing", "self_datainf"])
def test_other_scores(versus: Versus, name: str) -> None:
    """The rest of the closed forms, against the same sums over a matrix of gradients that is there already."""
    n, c, d = (10_000, 10, 512) if versus.full else (200, 3, 5)
    view = harness.View.from_arrays(**head(n, c, d))
    block, method = view.gradients["head"], harness.method(name)
    mean = view.reference("validation").gradients.rows(slice(None)).double().mean(0)
    parts = [slice(start, min(start + 1000, n)) for start in range(0, n, 1000)]
    rows = [block.rows(part) for part in parts]

    def dense() -> np.ndarray:
        if name.startswith("outlier"):
            return torch.cat([g.norm(int(name[-1]), dim=1) for g in rows]).double().numpy()
        if name == "gradient_tracing":
            return -torch.cat([g @ mean.float() for g in rows]).double().numpy()
        squared = torch.cat([(g**2).sum(1) for g in rows]).double()
        damping = squared.mean() / (10 * c * d)
        shared = torch.zeros(n, dtype=torch.float64)
        for part, g in zip(parts, rows, strict=True):
            for others, h in zip(parts, rows, strict=True):
                shared[part] += ((g @ h.T) ** 2).double() @ (1 / (damping + squared[others]))
        return ((squared - shared / n) / damping).numpy()

    scores = versus(f"{name}, n={n:,} c={c} d={d}, against a matrix", lambda: method.score(view), dense, rounds=3)
    np.testing.assert_allclose(scores, dense(), rtol=1e-3, atol=1e-3 * np.abs(scores).max())
