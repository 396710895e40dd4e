"""The table over budgets: gains with intervals, ordered, and stars only where the difference to random holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

import harness
from harness.errors import RequestError
from harness.results.statistics import holm, paired_p_values
from reports.budgets import budget_tables
from reports.markdown import report
from tests.command_line import call


def frame_of(gains: dict[str, dict[float, list[float]]]) -> pd.DataFrame:
    """A tidy table of gains by method, budget and seed."""
    rows = []
    for method, by_budget in gains.items():
        for budget, values in by_budget.items():
            for seed, gain in enumerate(values):
                shared = {
                    "key": f"{method}{budget}{seed}",
                    "task": "digits",
                    "protocol": "fair",
                    "preset": "fast",
                    "task_params": json.dumps({"budget": budget}),
                    "method_spec": method,
                    "method_title": method,
                    "seed": seed,
                    "status": "ok",
                    "n_flagged": 10,
                    "step": None,
                }
                for metric, value in (("accuracy_gain", gain), ("accuracy_base", 0.8), ("auroc", 0.9)):
                    rows.append({**shared, "metric": metric, "value": value})
    return pd.DataFrame(rows)


RANDOM = [0.0, -0.001, 0.001, 0.0005]


def test_rows_are_ordered_and_stars_are_corrected() -> None:
    """A difference whose p-value is 0.03 gets a star alone, and none among ten methods."""
    clear = [value + 0.05 for value in RANDOM]
    noise = np.array([0.004, 0.009, 0.003, 0.007])
    few = {"random": {0.1: RANDOM, 0.2: RANDOM}, "weak": {0.1: list(RANDOM + noise), 0.2: RANDOM}}
    p = paired_p_values(noise, np.zeros(4))
    assert 0.005 < p < 0.05
    many = {**few, "clear": {0.1: clear, 0.2: clear}} | {
        f"same{k}": {0.1: list(np.roll(RANDOM, k)), 0.2: RANDOM} for k in range(1, 12)
    }

    alone, among = budget_tables(frame_of(few)), budget_tables(frame_of(many))

    line = next(text for text in alone.splitlines() if "`weak`" in text)
    assert line.count("*") == 1
    rows = [text for text in among.splitlines() if text.startswith("| `")]
    assert "`clear`" in rows[0]
    assert rows[0].count("*") == 2
    assert "*" not in next(text for text in rows if "`weak`" in text)
    assert "+5.01 ± 0.14*" in rows[0]


def test_holm_is_the_published_procedure() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([])).shape == (0,)


def test_p_values_are_scipys() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((2, 7))
    assert paired_p_values(ours, theirs) == pytest.approx(ttest_rel(ours, theirs).pvalue)
    assert paired_p_values(ours, ours) == 1


def test_from_a_run_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    harness.run("random,oracle,self_confidence,none", "blobs[budget=0.05|0.1]", 3, preset="smoke", out=out)

    code, text, _ = call(capsys, "report", out, "--table", "budget")

    assert code == 0
    assert "## `blobs`, protocol fair, preset smoke" in text
    header = next(line for line in text.splitlines() if line.startswith("| Method"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["Method", "AUROC", "5 %", "10 %"]
    assert "`none`" not in text  # it removes nothing


def test_one_budget_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    harness.run("random", "blobs", 1, preset="smoke", out=out)
    code, _, error = call(capsys, "report", out, "--table", "budget")
    assert code == 2
    assert "no task here was run with several budgets; `python -m harness run" in error
    with pytest.raises(RequestError):
        budget_tables(frame_of({"random": {0.1: RANDOM}}))


@pytest.mark.parametrize("control", [True, False])
def test_methods_that_see_clean_samples_stand_beside_the_control(tmp_path: Path, control: bool) -> None:
    methods: Any = "datainf,clean_probe" if control else "datainf"
    frame = harness.run(methods, "blobs[retrain=no]", 1, preset="smoke", out=tmp_path / "out")
    assert ("`--methods clean_probe` adds the control" in report(frame)) != control
