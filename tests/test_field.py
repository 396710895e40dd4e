"""The field's detectors against loops in float64, closed forms and the packages that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax

import harness
from harness.interfaces.neighbours import nearest
from methods._transition import label_noise
from tests.closed_forms import brute, lam
from tests.conftest import last_layer, trained_view, view_of


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_a_full_distance_matrix(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(k)
    features = rng.normal(size=(80, 6)) * 10.0 ** rng.integers(-150, 150, (80, 1))  # cosines know no lengths
    expected = 1 - cdist(features / np.abs(features).max(1, keepdims=True), features, "cosine")
    np.fill_diagonal(expected, -np.inf)
    monkeypatch.setattr("harness.gradients.products.CHUNK_BYTES", 4 * 80 * 7)

    found = nearest(torch.from_numpy(features), k)

    assert np.array_equal(found.indices, np.argsort(-expected, axis=1)[:, :k])
    np.testing.assert_allclose(found.similarities, -np.sort(-expected, axis=1)[:, :k], atol=1e-6)
    with pytest.raises(harness.Unsupported, match="80 neighbours need more samples than the 80"):
        nearest(torch.from_numpy(features), 80)


@pytest.mark.parametrize("rule", ["vote", "ranking"])
def test_neighbours_labels_by_a_loop(rule: str) -> None:
    arrays = last_layer(60, 3, 4)
    view = view_of(arrays)
    labels, h = arrays["labels"], arrays["features"]
    similarity = 1 - cdist(h, h, "cosine")
    np.fill_diagonal(similarity, -np.inf)

    method = harness.method("knn_labels", k=5, rule=rule)
    scores = method.score(view)

    for i in range(60):
        near = labels[np.argsort(-similarity[i])[:5]]
        votes = np.bincount(near, minlength=3)
        own = votes[labels[i]] / (5 if rule == "vote" else np.sqrt((votes**2).sum()))
        assert scores[i] == pytest.approx(1 - own)
        if rule == "vote":
            assert method.flag(view, scores)[i] == (votes.max() > votes[labels[i]])


def test_the_noise_of_labels_is_found_from_neighbours_alone() -> None:
    rng = np.random.default_rng(0)
    transition = np.array([[0.7, 0.2, 0.1], [0.05, 0.8, 0.15], [0.1, 0.2, 0.7]])
    prior = np.array([0.5, 0.3, 0.2])
    n = 60_000
    truth = np.repeat(rng.choice(3, n // 3, p=prior), 3)
    labels = np.array([rng.choice(3, p=transition[k]) for k in truth])
    groups = np.arange(n).reshape(-1, 3)  # three samples of one class are each other's neighbours
    neighbours = np.concatenate([groups[:, [1, 2]], groups[:, [0, 2]], groups[:, [0, 1]]], axis=1).reshape(n, 2)

    noise = label_noise(labels, neighbours, 3)

    np.testing.assert_allclose(noise.transition, transition, atol=0.02)
    np.testing.assert_allclose(noise.prior, prior, atol=0.02)
    actual = [(truth[labels == c] != c).mean() for c in range(3)]
    np.testing.assert_allclose(noise.wrong_given(), actual, atol=0.02)


def test_the_relation_graph_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = last_layer(40, 3, 4)
    h, p, y = arrays["features"], arrays["probs"], arrays["labels"]
    monkeypatch.setattr("harness.gradients.products.CHUNK_BYTES", 12 * 40 * 7)

    scores = harness.method("relation_graph", power=3).score(view_of(arrays))

    for i in range(40):
        total = 0.0
        for j in set(range(40)) - {i}:
            cosine = h[i] @ h[j] / np.linalg.norm(h[i]) / np.linalg.norm(h[j])
            total += (-1 if y[i] == y[j] else 1) * (max(0, cosine) * (p[i] @ p[j])) ** 3
        assert scores[i] == pytest.approx(total, rel=1e-4, abs=1e-6)


def test_knn_shapley_is_the_shapley_value_of_all_subsets() -> None:
    """Of six training samples: the mean marginal gain over all orders in which they may come."""
    from itertools import permutations

    arrays = last_layer(6, 3, 4)
    similarity = 1 - cdist(arrays["reference_features"], arrays["features"], "cosine")
    labels, wanted = arrays["labels"], arrays["reference_labels"]

    def utility(subset: tuple[int, ...], r: int) -> float:
        near = sorted(subset, key=lambda i: -similarity[r, i])[:2]
        return sum(labels[i] == wanted[r] for i in near) / 2

    values = np.zeros(6)
    for order in permutations(range(6)):
        for place, i in enumerate(order):
            values[i] += np.mean(
                [utility(order[: place + 1], r) - utility(order[:place], r) for r in range(len(wanted))]
            )

    scores = harness.method("knn_shapley", k=2).score(view_of(arrays))

    np.testing.assert_allclose(-scores, values / 720, atol=1e-9)


@pytest.mark.parametrize("filter_by", ["prune_by_noise_rate", "both", "confident_learning", "predicted_neq_given"])
def test_confident_learning_is_cleanlabs(filter_by: str) -> None:
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 400)
    labels = np.where(rng.random(400) < 0.2, (truth + 1) % 3, truth)
    probs = softmax(2.0 * np.eye(3)[truth] + rng.normal(size=(400, 3)), axis=1)
    view = harness.View.from_arrays(None, probs, labels)
    method = harness.method("confident_learning", probs="in_sample", filter_by=filter_by)

    flags = method.flag(view, method.score(view))

    assert np.array_equal(flags.flagged, find_label_issues(labels, view.probs, filter_by=filter_by))
    assert flags.estimated_errors == pytest.approx((labels != truth).sum(), rel=0.35)


def test_argmax_disagrees_where_its_score_is_positive() -> None:
    arrays = last_layer(50, 3, 4)
    view = view_of(arrays)
    method = harness.method("argmax_disagrees", probs="in_sample")
    scores = method.score(view)

    assert np.array_equal(method.flag(view, scores), arrays["probs"].argmax(1) != arrays["labels"])


def test_the_clean_probe_sees_clean_samples_alone() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    arrays = last_layer(40, 3, 4)
    scaler = StandardScaler().fit(arrays["reference_features"])
    probe = LogisticRegression(C=0.5, max_iter=2000).fit(
        scaler.transform(arrays["reference_features"]), arrays["reference_labels"]
    )
    probs = probe.predict_proba(scaler.transform(arrays["features"]))

    scores = harness.method("clean_probe", penalty=2.0).score(view_of(arrays))

    column = np.searchsorted(probe.classes_, arrays["labels"]).clip(max=len(probe.classes_) - 1)
    known = probe.classes_[column] == arrays["labels"]
    np.testing.assert_allclose(scores, 1 - np.where(known, probs[np.arange(40), column], 0), rtol=1e-6)


def test_out_of_bag_by_a_loop() -> None:
    task, split, view = trained_view("moons[steps=60]")
    rng, n = view.rng, view.n
    bags = [np.isin(np.arange(n), rng.integers(0, n, n)) for _ in range(12)]
    wrong, out = np.zeros(n), np.zeros(n)
    for bag in bags:
        predicted = task.outputs(task.train(split, bag, 3), split.train).class_probs().argmax(1)
        wrong += ~bag & (predicted != split.train.labels.numpy())
        out += ~bag

    scores = harness.method("data_oob", n_models=12).score(view)

    np.testing.assert_allclose(scores, wrong / out)


@pytest.mark.parametrize("damping", [1e-3, "auto"])
def test_relatif_by_a_matrix(damping: Any) -> None:
    arrays = last_layer(30, 3, 4)
    g, reference = brute(arrays, False), brute(arrays, False, "reference_").mean(0)
    inverse = np.linalg.inv(g.T @ g / 30 + lam(g, damping) * np.eye(12))
    moved = g @ inverse

    scores = harness.method("relat_if", damping=damping, hessian="outer_product").score(view_of(arrays))

    np.testing.assert_allclose(scores, -(moved @ reference) / np.linalg.norm(moved, axis=1), rtol=1e-5)


def test_agra_by_a_loop() -> None:
    _, _, view = trained_view()
    rng, expected = view.rng, np.zeros(200)
    for checkpoint in view.checkpoints:
        g = checkpoint.view.gradients.rows(slice(None)).double().numpy()
        for _ in range(3):
            mean = g[rng.permutation(200)[:8]].mean(0)
            expected += g @ mean / np.linalg.norm(g, axis=1) / np.linalg.norm(mean) / 15

    scores = harness.method("agra", batch=8, batches=3).score(view)

    np.testing.assert_allclose(scores, -expected, rtol=1e-4, atol=1e-5)


def test_representer_orders_as_self_confidence() -> None:
    arrays = last_layer(30, 3, 4)
    view = view_of(arrays)

    alpha = harness.method("representer").score(view)
    product = harness.method("representer", weight="self_product").score(view)

    np.testing.assert_allclose(alpha, harness.method("self_confidence").score(view), rtol=1e-6)
    np.testing.assert_allclose(product, alpha * (arrays["features"] ** 2).sum(1), rtol=1e-5)
