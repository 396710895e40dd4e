"""How often the intervals of reports cover the true difference, and how often equals are called worse: simulations."""

from __future__ import annotations

import numpy as np
import pytest

from harness.results.statistics import paired_difference
from reports.comparison import RANKED, Row, _best

SIMULATIONS = 4000


@pytest.fixture(autouse=True)
def with_benchmarks_alone(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("benchmark_enable"):
        pytest.skip("simulations of half a minute; `tox -e bench` runs them")


def covered(k: int, draw: str) -> float:
    """The share of simulated experiments of k seeds whose interval covers the true mean difference."""
    rng = np.random.default_rng(k)
    if draw == "normal":
        differences = rng.normal(size=(SIMULATIONS, k))
    elif draw == "heavy":  # Student's t with 4 degrees of freedom
        differences = rng.standard_t(4, size=(SIMULATIONS, k))
    else:  # an exponential distribution: all outliers on one side
        differences = rng.exponential(size=(SIMULATIONS, k)) - 1
    intervals = [paired_difference(row, np.zeros(k)) for row in differences]
    return float(np.mean([each.low <= 0 <= each.high for each in intervals]))  # type: ignore[operator]


@pytest.mark.parametrize("k", [2, 3, 4, 5, 10])
def test_intervals_cover_what_they_say(k: int) -> None:
    assert covered(k, "normal") == pytest.approx(0.95, abs=0.015)
    assert covered(k, "heavy") >= 0.93
    assert covered(k, "skewed") >= 0.87  # what a t-interval is known for; reports of five seeds say 95 %


@pytest.mark.parametrize(("k", "least", "most"), [(2, 0.45, 0.55), (4, 0.75, 0.83), (5, 0.79, 0.87), (10, 0.87, 0.93)])
def test_a_percentile_bootstrap_would_cover_less(k: int, least: float, most: float) -> None:
    """The figures that `paired_difference` gives as its reason."""
    rng = np.random.default_rng(k)
    hits = 0
    for _ in range(SIMULATIONS // 4):
        sample = rng.normal(size=k)
        means = sample[rng.integers(0, k, (1000, k))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        hits += low <= 0 <= high
    assert least <= hits / (SIMULATIONS // 4) <= most


def rows(values: np.ndarray) -> list[Row]:
    """Rows with these AUROCs, (methods, seeds)."""
    return [
        Row(str(i), str(i), (), len(mine), {}, None, None, None, "", values={"auroc": dict(enumerate(mine.tolist()))})
        for i, mine in enumerate(values)
    ]


@pytest.mark.parametrize("methods", [5, 27])
def test_equals_are_seldom_called_worse(methods: int) -> None:
    """The chance that bold leaves out any of several equal methods is at most 5 %, up to the simulation's error."""
    rng = np.random.default_rng(methods)
    assert "auroc" in RANKED
    called = sum(bool(_best(rows(0.8 + 0.05 * rng.normal(size=(methods, 5))), "auroc")) for _ in range(600))
    assert called / 600 <= 0.05 + 0.02
