"""What `find --compare` plants and expects, and which samples a method flags."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import harness
from harness.finding.planting import KINDS, Ground, confused_classes
from tests.own_data import cancer, in_order


@pytest.mark.parametrize("kind", KINDS)
def test_planted_errors(kind: str) -> None:
    """The wanted number of labels changes, among the free samples alone, to classes that occur."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    probs = np.eye(4)[labels] * 0.6 + 0.1
    free = rng.random(400) < 0.8
    flagged = ~free
    ground = Ground(labels, probs, rng.normal(size=(400, 3)), free, confused_classes(labels, probs, flagged))

    planted = KINDS[kind](ground, 40, np.random.default_rng(1))

    changed = planted != labels
    assert changed.sum() == 40
    assert not changed[flagged].any()
    assert (planted == KINDS[kind](ground, 40, np.random.default_rng(1))).all()
    if kind != "boundary":
        assert planted.max() <= 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_comparison_predicts_what_the_winner_finds(seed: int) -> None:
    """Errors are in the data already; the predicted precision's interval has the precision on those errors."""
    table, wrong = cancer(0.1, seed)

    frame = harness.find(table, "diagnosis", compare="self_confidence,normalized_margin,argmax_disagrees,leave_one_out")

    compared = pd.DataFrame(frame.attrs["compared"]).set_index("method")
    assert compared["average_precision"].idxmax() == frame.attrs["method"]
    assert compared.loc["random", "average_precision"] < 0.3 < compared.loc["self_confidence", "average_precision"]
    assert "leave_one_out" not in compared.index
    _, low, high = frame.attrs["expected_precision"]
    flagged = in_order(frame, "probably_wrong")
    assert low <= wrong[flagged].mean() <= high


def test_a_method_without_a_rule_flags_as_many_as_are_estimated_wrong() -> None:
    table, _ = cancer()
    frame = harness.find(table, "diagnosis", method="outlier_l2", model="linear")
    assert frame["probably_wrong"].sum() == frame.attrs["estimated_errors"]
    assert frame.attrs["method"] == "outlier_l2"
