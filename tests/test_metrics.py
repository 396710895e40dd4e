"""Flags, detection metrics and statistics against hand counts and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.interfaces.flags import Flags
from harness.results.metrics import detection, of_own_flags, within_class
from harness.results.statistics import Difference, paired_difference, summarise
from harness.running.trimming import flagged


def test_the_budgets_share_with_the_highest_scores_is_flagged() -> None:
    scores = np.array([0.1, 0.9, np.nan, 0.8, -np.inf, np.inf])
    assert flagged(scores, 0.5, 0).tolist() == [False, True, False, True, False, True]
    assert flagged(scores, 0.0, 0).sum() == 0
    assert flagged(np.zeros(250), 0.1, 0).sum() == 25


def test_ties_are_broken_by_the_seed_and_not_by_order() -> None:
    counts = sum(flagged(np.zeros(10), 0.3, seed).astype(int) for seed in range(2000))
    assert counts.min() > 500  # 600 expected of each place; index order would give 2000 and 0
    np.testing.assert_array_equal(flagged(np.zeros(10), 0.3, 5), flagged(np.zeros(10), 0.3, 5))


def test_detection_metrics_by_hand() -> None:
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    mask = np.array([True, True, False, False])
    noisy = np.array([True, False, True, False])
    found = detection(scores, mask, noisy)
    assert found == {
        "detection_accuracy": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "auroc": 0.75,
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "precision_at_errors": 0.5,
        "found_area": 0.625,
    }


def test_the_papers_bounds_of_moons() -> None:
    """25 flagged of 250 with 20 noisy: detection accuracy lies in [82 %, 98 %]."""
    noisy = np.arange(250) < 20
    assert detection(-np.arange(250.0), np.arange(250) < 25, noisy)["detection_accuracy"] == 0.98
    assert detection(np.arange(250.0), np.arange(250) >= 225, noisy)["detection_accuracy"] == 0.82


def test_metrics_that_do_not_exist_are_left_out() -> None:
    scores, none = np.arange(3.0), np.zeros(3, dtype=bool)
    assert detection(scores, none, none) == {"detection_accuracy": 1.0}
    assert "auroc" not in detection(scores, none, ~none)


def test_auroc_takes_infinities_and_ties() -> None:
    noisy = np.array([True, False, True, False])
    assert detection(np.array([np.inf, 1, 2, np.nan]), noisy, noisy)["auroc"] == 1.0
    assert detection(np.ones(4), noisy, noisy)["auroc"] == 0.5


def test_summary() -> None:
    assert summarise(np.array([1.0, 3.0])).std == pytest.approx(2**0.5)
    assert summarise(np.array([1.0])).std is None


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_of_paired_differences_cover_what_they_say(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    theirs = rng.normal(size=(2000, seeds))
    ours = theirs + rng.normal(0.5, 1, (2000, seeds))

    found = [paired_difference(*pair) for pair in zip(ours, theirs, strict=True)]

    inside = np.mean([each.low <= 0.5 <= each.high for each in found])
    assert inside == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


def test_intervals_are_students() -> None:
    ours = np.array([0.3, -0.1, 0.4, 0.2])
    expected = scipy.stats.ttest_1samp(ours, 0).confidence_interval(0.95)

    found = paired_difference(ours + 1, np.ones(4))

    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert paired_difference(ours[:1], np.zeros(1)) == Difference(0.3, None, None, 1)


def test_paired_difference_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired_difference(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="equally long"):
        paired_difference(np.ones(0), np.ones(0))


@pytest.mark.parametrize("seed", range(6))
def test_metrics_of_scores_against_scikit_learn_and_loops(seed: int) -> None:
    """With many ties, infinities and NaN; what depends on the order of ties is the mean over many orders."""
    rng = np.random.default_rng(seed)
    n = 150
    noisy = rng.random(n) < 0.3
    scores = np.round(rng.normal(size=n) + noisy, 1)
    scores[:3] = [np.nan, np.inf, -np.inf]
    finite = np.unique(np.where(np.isnan(scores), -np.inf, scores), return_inverse=True)[1]
    orders = [np.lexsort((rng.random(n), -finite)) for _ in range(4000)]
    found = np.array([np.cumsum(noisy[order]) for order in orders]).mean(0)
    errors = noisy.sum()

    metrics = detection(scores, scores > 1, noisy)

    assert metrics["auroc"] == pytest.approx(roc_auc_score(noisy, finite))
    assert metrics["average_precision"] == pytest.approx(average_precision_score(noisy, finite))
    assert metrics["precision_at_errors"] == pytest.approx(found[errors - 1] / errors, abs=0.005)
    assert metrics["lift_100"] == pytest.approx(found[99] / 100 / noisy.mean(), abs=0.01)
    area = np.trapezoid(np.concatenate([[0], found]) / errors, np.arange(n + 1) / n)
    assert metrics["found_area"] == pytest.approx(area, abs=0.002)


def test_auroc_within_classes_is_blind_to_their_heights() -> None:
    labels = np.repeat([0, 1, 2], 40)
    noisy = np.arange(120) % 4 == 0
    noisy[labels == 2] = False  # a class without errors says nothing
    scores = np.where(noisy, 1.0, 0.0) + 100 * labels

    metrics = within_class(scores, noisy, labels)

    assert metrics == {"auroc_within_class": 1.0}
    assert detection(scores, noisy, noisy)["auroc"] < 0.7
    assert within_class(scores, np.zeros(120, dtype=bool), labels) == {}


def test_metrics_of_own_flags_by_hand() -> None:
    noisy = np.array([True, True, True, False, False])
    own = Flags(np.array([True, False, True, True, False]), estimated_errors=2.5)

    metrics = of_own_flags(own, noisy)

    assert metrics == {
        "own_flagged": 0.6, "estimated_errors": 0.5, "own_precision": 2 / 3, "own_recall": 2 / 3, "own_f1": 2 / 3
    }  # fmt: skip
    assert of_own_flags(Flags(np.zeros(5, dtype=bool), 0), ~noisy & noisy) == {
        "own_flagged": 0.0,
        "estimated_errors": 0.0,
    }
