"""The gate: rules, verdicts and what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import RequestError
from harness.gate.compare import FALSE_ALARMS, compare
from harness.gate.verdicts import Comparison, Line, parse_rule
from reports.gate import as_text
from tests.gate_rows import RULES, A, rows


def verdicts(base: dict[str, Any], new: dict[str, Any], *rules: str, **changes: Any) -> dict[str, str]:
    found = compare(rows(base), rows(new, **changes), [parse_rule(rule) for rule in rules] or RULES)
    return {line.metric: line.verdict for line in found.lines}


def test_rules() -> None:
    rule = parse_rule("auroc:-0.02")
    assert (rule.metric, rule.tolerance, rule.relative, rule.higher_is_better) == ("auroc", 0.02, False, True)
    rule = parse_rule("score_seconds:+25%")
    assert (rule.tolerance, rule.relative, rule.higher_is_better, rule.text) == (
        0.25,
        True,
        False,
        "score_seconds:+25%",
    )
    assert parse_rule("auroc:-2%").relative


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("auroc", "write how far auroc may fall, such as auroc:-0.02"),
        ("auroc:+0.02", "may fall"),
        ("auroc:0.02", "may fall"),
        ("auroc:-x", "may fall"),
        ("auroc:-nan", "may fall"),
        ("score_seconds:-25%", r"may rise, such as score_seconds:\+25%"),
        ("aurok:-0.02", "did you mean 'auroc'"),
    ],
)
def test_rules_that_make_no_sense(text: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        parse_rule(text)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (np.zeros(5), "same"),
        (np.full(5, -1e-6), "same"),  # what a baseline file rounds away
        (np.full(5, -0.019), "no worse"),
        (np.full(5, -0.021), "worse"),
        (np.array([-0.05, -0.06, -0.05, -0.06, -0.055]), "worse"),
        (np.array([-0.10, 0.05, -0.10, 0.05, -0.01]), "undecided"),
        (np.array([-0.001, 0.002, -0.002, 0.001, 0.0]), "no worse"),
        (np.array([0.05, 0.06, 0.05, 0.06, 0.055]), "better"),
    ],
)
def test_verdicts(change: np.ndarray, verdict: str) -> None:
    assert verdicts({"auroc": A}, {"auroc": A + change}) == {"auroc": verdict}
    # where lower is better, the same the other way round
    costs = verdicts({"score_seconds": A}, {"score_seconds": A - change}, "score_seconds:+0.02")
    assert costs == {
        "score_seconds": "same" if np.abs(change).max() < 0.004 else verdict
    }  # half a per cent is rounding


def test_the_interval_is_students() -> None:
    change = np.array([-0.03, -0.01, 0.02, -0.04, 0.01])
    line = compare(rows({"auroc": A}), rows({"auroc": A + change}), RULES).lines[0]
    low, high = stats.t.interval(1 - 2 * FALSE_ALARMS, 4, change.mean(), stats.sem(change))
    assert (line.low, line.high) == (pytest.approx(low), pytest.approx(high))
    assert line.difference == pytest.approx(change.mean())
    # more lines that differ, wider intervals, so that all hold together; lines that are the same ask nothing
    several = compare(
        pd.concat([rows({"auroc": A}, method=name) for name in "abc"]),
        pd.concat([rows({"auroc": A + (0 if name == "c" else change)}, method=name) for name in "abc"]),
        RULES,
    ).lines
    low, high = stats.t.interval(1 - FALSE_ALARMS, 4, change.mean(), stats.sem(change))
    assert [line.low for line in several[:2]] == [pytest.approx(low)] * 2
    assert several[2].verdict == "same"


def test_one_seed_is_judged_by_itself() -> None:
    assert verdicts({"auroc": [0.9]}, {"auroc": [0.89]}) == {"auroc": "no worse"}
    found = compare(rows({"auroc": [0.9]}), rows({"auroc": [0.8]}), RULES)
    assert (found.lines[0].verdict, found.lines[0].low, found.exit_code) == ("worse", None, 1)
    assert "one seed gives no interval" in as_text(found)


def test_seeds_are_paired() -> None:
    base, new = rows({"auroc": A}), rows({"auroc": A[::-1]})
    new["seed"] = 4 - new["seed"]
    assert compare(base, new, RULES).lines[0].verdict == "same"
    new["seed"] += 100
    found = compare(base, new, RULES)
    assert (found.lines[0].verdict, found.lines[0].note, found.exit_code) == ("not compared", "no seed in common", 2)


def test_times_within_one_machine_only() -> None:
    slow, slower = {"score_seconds": 1 + 0.01 * A}, {"score_seconds": 2 + 0.01 * A}
    assert verdicts(slow, slower, "score_seconds:+25%") == {"score_seconds": "worse"}
    assert verdicts(slower, slow, "score_seconds:+25%") == {"score_seconds": "better"}
    assert verdicts(slow, slower, "score_seconds:+25%", machine="other") == {"score_seconds": "not compared"}
    assert verdicts({"auroc": A}, {"auroc": A}, machine="other") == {"auroc": "same"}  # quality, on any
    quick = {"score_seconds": 1e-3 * A}
    assert verdicts(quick, {"score_seconds": 5e-3 * A}, "score_seconds:+25%") == {"score_seconds": "no worse"}


def test_a_cell_that_fails_now_is_worse() -> None:
    new = pd.concat([rows({"auroc": A[:3]}), rows({"auroc": [np.nan] * 2}, status="failed", error="ValueError: x\ny")])
    new.loc[new["status"] == "failed", "seed"] = [3, 4]
    found = compare(rows({"auroc": A}), new, RULES)
    assert [line.verdict for line in found.lines] == ["same", "worse"]
    assert found.lines[1].note == "failed in 2 of 5 seeds that were ok: ValueError: x"
    assert compare(new, rows({"auroc": A}), RULES).exit_code == 0  # and the other way it is none


def test_what_is_missing_is_named() -> None:
    base = pd.concat([rows({"auroc": A}), rows({"auroc": A}, method="gone")])
    found = compare(base, rows({"auroc": A}), RULES)
    assert (found.exit_code, found.missing) == (2, ["moons × gone"])  # a gate must not pass as what it guards is gone
    assert "not compared: moons × gone." in as_text(found)
    other = compare(base, rows({"auroc": A}, task_params='{"n": 2}'), RULES)
    assert other.exit_code == 2
    assert other.missing[1] == "moons × mine (there with other task parameters or data)"


def test_strictness_and_wording() -> None:
    change = np.array([-0.10, 0.05, -0.10, 0.05, -0.01])
    found = compare(rows({"auroc": A}), rows({"auroc": A + change}), RULES)
    assert (found.exit_code, found.gaps) == (0, 1)
    assert as_text(found).splitlines()[-1] == "Not shown to be worse: 1 undecided."


def test_shares_of_nothing() -> None:
    assert verdicts({"accuracy": [0.0]}, {"accuracy": [0.1]}, "accuracy:-10%") == {"accuracy": "not compared"}
    assert verdicts({"accuracy": [0.0]}, {"accuracy": [0.0]}, "accuracy:-10%") == {"accuracy": "same"}


def test_metrics_of_other_tasks() -> None:
    with pytest.raises(RequestError, match="unknown metric 'f1'"):
        parse_rule("f1:-0.01")
    rule = parse_rule("f1:-0.01", {"f1"})
    found = compare(rows({"f1": A}), rows({"f1": A - 0.1}), [rule])
    assert [line.verdict for line in found.lines] == ["worse"]


def test_a_comparison_shows_itself_in_a_notebook() -> None:
    found = Comparison(
        [Line("<moons>", "mine", "auroc", "worse", base=0.9, new=0.8, difference=-0.1)], ["blobs × mine"]
    )
    assert list(found.frame["verdict"]) == ["worse"]
    html = found._repr_html_()
    assert "&lt;moons&gt;" in html
    assert "-0.100" in html
    assert "missing in NEW: blobs × mine" in html
