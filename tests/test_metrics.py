"""Flags, detection metrics and statistics against hand counts and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from harness.results.metrics import detection
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
