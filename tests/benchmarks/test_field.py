"""The field's detectors at a CIFAR-10 head's size, n = 50,000, c = 10, d = 512, with a floor or the usual way beside.

The usual way of neighbours is scikit-learn's exact search; their floor is the product of the features with themselves.
The usual way of the exact inverse forms the matrix. The usual isolation forest is scikit-learn's on the same matrix.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

import harness
from harness.interfaces.dynamics import Dynamics, Recording
from harness.interfaces.neighbours import nearest
from harness.interfaces.outputs import Outputs
from harness.interfaces.trained import Training
from methods._curvature import LastLayerHessian
from methods._solvers import Factorised, damping_of, solver
from tests.benchmarks.conftest import ROWS, Row, Versus, extra_mib, seconds
from tests.benchmarks.test_scores import head

WATCHING = ("aum", "data_maps", "forgetting", "loss_ema", "el2n")
LOOKING = (
    "knn_labels",
    "relation_graph",
    "knn_shapley",
    "clean_probe",
    "ekfac_influence",
    "ekfac_self_influence",
    "trak",
)
ON_PROBS = ("argmax_disagrees[probs=in_sample]", "confident_learning[probs=in_sample]", "representer")


def test_neighbours(versus: Versus) -> None:
    n, d = (20_000, 512) if versus.full else (200, 8)
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((n, d), dtype=np.float32))

    def product() -> None:
        for rows in features.split(1000):
            _ = rows @ features.T

    def usual() -> None:
        NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(features.numpy()).kneighbors()

    found = versus(f"10 neighbours, n={n:,} d={d}", lambda: nearest(features, 10), usual, product, rounds=2)

    assert found.indices.shape == (n, 10)


def test_the_exact_inverse(versus: Versus) -> None:
    n, c, d = (50_000, 10, 512) if versus.full else (300, 3, 6)
    (block,) = harness.View.from_arrays(**head(n, c, d)).gradients.values()
    curvature, damping = LastLayerHessian(block), damping_of(block, "auto")
    vector = torch.from_numpy(np.random.default_rng(0).standard_normal((c * d, 1)))

    solution = versus(
        f"one exact solve, n={n:,} p={c * d:,}",
        lambda: solver(curvature, damping)(vector),
        lambda: Factorised(curvature, damping).solve(vector),
        rounds=1,
    )

    assert solution.convergence.converged is not False


def test_the_forest_on_a_wide_matrix(versus: Versus) -> None:
    n, p = (500, 100_000) if versus.full else (60, 300)
    gradients = np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)
    view = harness.View.from_blocks({"a": gradients}, labels=np.zeros(n, dtype=int))

    scores = versus(
        f"isolation forest on {n} x {p:,} numbers",
        lambda: harness.method("outlier_iforest[projection=none]").score(view),
        lambda: IsolationForest(random_state=view.seed).fit(gradients).score_samples(gradients),
        rounds=3,
    )

    expected = -IsolationForest(random_state=view.seed).fit(gradients).score_samples(gradients)
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("spec", [*WATCHING, *LOOKING, *ON_PROBS])
def test_scores(versus: Versus, spec: str) -> None:
    """Seconds and memory alone: there is no usual way that all have."""
    n, c, d = (50_000, 10, 512) if versus.full else (300, 3, 6)
    arrays = head(n, c, d)
    method = harness.method(spec)
    view = harness.View.from_arrays(**arrays)
    if spec in WATCHING:
        logits = np.random.default_rng(0).standard_normal((20, n, c)).astype(np.float16)
        recording = Recording(Dynamics(logits, np.arange(1.0, 21), np.ones(20)), [])
        outputs = Outputs(torch.from_numpy(arrays["labels"]), torch.from_numpy(arrays["probs"]))
        view = harness.View(arrays["labels"], lambda: outputs, training=Training(recording=lambda: recording))

    if not versus.full:
        assert method.score(view).shape == (n,)
        versus.benchmark(lambda: None)
        return

    def score() -> None:
        scores = method.score(view.fresh(0))
        assert scores.shape == (n,)

    extra = extra_mib(score)
    ROWS.append(Row(f"{spec}, n={n:,} c={c} d={d}", seconds(score), extra_mib=extra))
    versus.benchmark.pedantic(score, rounds=1)
