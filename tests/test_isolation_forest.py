"""The isolation forest on factored gradients against scikit-learn's on the materialised matrix: the same numbers."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.random_projection import SparseRandomProjection

import harness
from harness.gradients import products
from tests.conftest import last_layer

SEED = 11


def gradients_of(view: harness.View) -> np.ndarray:
    return view.gradients.rows(slice(None)).numpy()


def outer_view(n: int, c: int, d: int, dtype: type) -> harness.View:
    arrays = last_layer(n, c, d)
    arrays = {k: v.astype(dtype) if v.dtype == np.float64 else v for k, v in arrays.items() if "reference" not in k}
    return harness.View.from_arrays(**arrays, bias=True, seed=SEED)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1000, 4, 7), (257, 2, 3), (256, 3, 5), (100, 3, 300), (2, 2, 2), (1, 2, 3)])
@pytest.mark.parametrize("n_estimators", [1, 25])
def test_same_scores_as_scikit_learn(shape: tuple[int, int, int], dtype: type, n_estimators: int) -> None:
    view = outer_view(*shape, dtype)
    points = gradients_of(view)
    expected = -IsolationForest(n_estimators=n_estimators, random_state=SEED).fit(points).score_samples(points)
    with mock.patch.object(products, "CHUNK_BYTES", 64 * n_estimators * 90):  # several chunks, the last not whole
        scores = harness.method("outlier_iforest", n_estimators=n_estimators).score(view)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("several", [False, True])
def test_dense_blocks(several: bool) -> None:
    rng = np.random.default_rng(0)
    blocks = {"A": rng.standard_normal((400, 3, 5)).astype(np.float32)}
    if several:
        blocks["B"] = rng.standard_normal((400, 7)).astype(np.float32)
    view = harness.View.from_blocks(blocks, seed=SEED)
    points = np.hstack([b.reshape(400, -1) for b in blocks.values()])
    expected = -IsolationForest(random_state=SEED).fit(points).score_samples(points)
    np.testing.assert_array_equal(harness.method("outlier_iforest").score(view), expected)


@pytest.mark.parametrize("components", [8, 300])
def test_projected_gradients(components: int) -> None:
    view = outer_view(500, 5, 60, np.float32)
    points = SparseRandomProjection(components, random_state=SEED).fit_transform(gradients_of(view))
    expected = -IsolationForest(random_state=SEED).fit(points).score_samples(points)
    with mock.patch.object(products, "CHUNK_BYTES", 2**20):
        scores = harness.method("outlier_iforest", projection=components).score(view)
    np.testing.assert_array_equal(scores, expected)
    assert view.health == {"dimension": components, "projected_from": 305}


def test_automatic_projection_is_scikit_learns() -> None:
    n, c, d = 60, 101, 100  # 10,100 numbers a sample: beyond the automatic limit
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(c), size=n).astype(np.float32)
    features = rng.standard_normal((n, d)).astype(np.float32)
    view = harness.View.from_arrays(features, probs, rng.integers(0, c, n), seed=SEED)
    points = SparseRandomProjection(random_state=SEED).fit_transform(gradients_of(view))
    expected = -IsolationForest(random_state=SEED).fit(points).score_samples(points)
    np.testing.assert_array_equal(harness.method("outlier_iforest").score(view), expected)
    assert view.health["dimension"] == points.shape[1]


def test_equal_gradients_are_equally_anomalous() -> None:
    view = harness.View.from_blocks({"A": np.ones((300, 4), dtype=np.float32)}, seed=SEED)
    expected = -IsolationForest(random_state=SEED).fit(np.ones((300, 4))).score_samples(np.ones((300, 4)))
    np.testing.assert_array_equal(harness.method("outlier_iforest").score(view), expected)
    assert torch.equal(view.gradients["A"].norm(1), torch.full((300,), 4.0, dtype=torch.float64))


def test_flagged_samples_are_those_of_contamination() -> None:
    """The reference engine flags by ``contamination=0.05``; the highest 5 % of the scores are the same samples."""
    view = outer_view(120, 3, 5, np.float32)
    points = gradients_of(view)
    predicted = IsolationForest(contamination=0.05, random_state=SEED).fit_predict(points)
    assert set(np.flatnonzero(predicted == -1)) == set(np.argsort(-harness.method("outlier_iforest").score(view))[:6])


@pytest.mark.parametrize("kind", ["last layer", "dense", "projected"])
@pytest.mark.parametrize("scale", [1e-8, 1e-12, 1e-30])
def test_small_gradients_are_no_flat_forest(kind: str, scale: float) -> None:
    """scikit-learn takes columns that vary by less than 1e-7 for constant; splits do not depend on scale."""
    rng = np.random.default_rng(0)
    scale = float(2.0 ** np.round(np.log2(scale)))
    if kind == "last layer":
        arrays = {key: values for key, values in last_layer(300, 3, 5).items() if "reference" not in key}
        large = harness.View.from_arrays(**arrays, seed=SEED)
        small = harness.View.from_arrays(**{**arrays, "features": scale * arrays["features"]}, seed=SEED)
    else:
        values = rng.standard_normal((300, 30))
        large, small = (harness.View.from_blocks({"a": factor * values}, seed=SEED) for factor in (1, scale))
    method = harness.method("outlier_iforest", projection=8 if kind == "projected" else "none")

    expected, found = method.score(large), method.score(small)

    assert len(np.unique(found)) > 100
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    flat = harness.method("outlier[detector=IsolationForest]").score(small)
    assert len(np.unique(flat)) > 100


def test_gradients_of_an_ordinary_size_are_left_as_they_are() -> None:
    from methods._projection import SMALL, scale_for_detectors

    view = outer_view(100, 3, 5, np.float32)
    assert scale_for_detectors(view.gradients) == 1
    assert scale_for_detectors(harness.View.from_blocks({"a": np.full((3, 1), SMALL)}).gradients) == 1
    assert scale_for_detectors(harness.View.from_blocks({"a": np.full((3, 1), SMALL / 2)}).gradients) == 2 / SMALL
    assert scale_for_detectors(harness.View.from_blocks({"a": np.zeros((3, 1))}).gradients) == 1
