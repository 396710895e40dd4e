"""What a method flags of its own accord, and thresholds on scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.interfaces.flags import Flags, mixture, otsu
from harness.running.trimming import flags_of
from harness.selection.adoption import method_class
from tests.conftest import last_layer, plug_in, view_of


def two_groups(n: int = 2000, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of right and wrong labels, four deviations apart, and which are wrong."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < share
    return rng.normal(size=n) + 4 * wrong, wrong


@pytest.mark.parametrize(("threshold", "right"), [(mixture, 0.97), (otsu, 0.9)])  # Otsu leans to the larger group
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_thresholds_find_two_groups_at_any_scale(threshold: Any, right: float, scale: float) -> None:
    scores, wrong = two_groups()
    scores[:2] = [np.nan, np.inf]

    flags = threshold(scale * scores)

    assert (flags.flagged == wrong)[2:].mean() > right
    assert not flags.flagged[0]
    assert flags.flagged[1]


def test_the_mixture_estimates_how_many_are_wrong() -> None:
    scores, wrong = two_groups(share=0.3)

    flags = mixture(scores)

    assert flags.estimated_errors == pytest.approx(wrong.sum(), rel=0.05)


def test_the_mixture_never_flags_a_lower_score_and_leaves_a_higher_one() -> None:
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.normal(0, 0.1, 900), rng.normal(1, 2, 100)])  # the upper component is wide

    flags = mixture(scores)

    assert scores[flags.flagged].min() > scores[~flags.flagged].max() - 1e-12


def test_otsu_is_the_best_of_all_thresholds() -> None:
    scores = np.random.default_rng(2).gamma(2, size=60)

    flagged = otsu(scores).flagged

    def within(mask: np.ndarray) -> float:
        return sum(((part - part.mean()) ** 2).sum() for part in (scores[mask], scores[~mask]))

    bounded = np.clip(scores, *np.quantile(scores, [0.001, 0.999]))
    best = min(within(bounded > cut) for cut in np.sort(bounded)[:-1])
    assert within(flagged) == pytest.approx(best)


@pytest.mark.parametrize("threshold", [mixture, otsu])
@pytest.mark.parametrize("scores", [np.ones(5), np.full(5, np.nan), np.array([1.0])])
def test_scores_that_are_all_equal_flag_nothing(threshold: Any, scores: np.ndarray) -> None:
    assert not threshold(scores).flagged.any()


class Own:
    """Flags what its scores say, and estimates one error more."""

    def score(self, view: Any) -> Any:
        return -view.probs[np.arange(view.n), view.labels]

    def flag(self, view: Any, scores: Any) -> Any:
        return Flags(scores > -0.5, float((scores > -0.5).sum() + 1))


class Wrong(Own):
    def flag(self, view: Any, scores: Any) -> Any:
        return np.ones(3)


def test_own_flags_reach_the_tidy_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    frame = harness.run(
        [Own, "self_confidence", "self_confidence[threshold=mixture]"], "moons", 1, preset="smoke", out=tmp_path
    )

    values = frame.pivot_table(index="method_spec", columns="metric", values="value")
    assert {"own_flagged", "own_precision", "own_recall", "own_f1", "estimated_errors"} <= set(values)
    own = values.loc["own"]
    assert own["estimated_errors"] == pytest.approx(own["own_flagged"] + 1 / 250)
    assert np.isnan(values.loc["self_confidence", "own_flagged"])
    assert values.loc["self_confidence[threshold=mixture]", "own_f1"] > 0.5
    assert {"precision_at_errors", "found_area", "lift_100", "auroc_within_class"} <= set(values)


def test_flags_of_another_shape_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    frame = harness.run([Wrong], "moons", 1, preset="smoke", out=tmp_path)

    assert frame["error"].iloc[0].startswith("ValueError: wrong.flag returned (3,) float64; (250,) bool was expected")


def test_a_function_may_have_a_parameter_called_threshold() -> None:
    def detector(view: Any, threshold: float = 0.5) -> Any:
        return (view.probs[np.arange(view.n), view.labels] < threshold).astype(float)

    made = method_class(detector)(threshold=0.25)
    view = view_of(last_layer(20, 3, 4))

    scores = made.score(view)

    assert scores.tolist() == (view.probs[np.arange(20), view.labels] < 0.25).astype(float).tolist()
    assert flags_of(made, view, scores) is None
