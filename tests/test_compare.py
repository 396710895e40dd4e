"""The gate: verdicts, exit codes, baseline files, and how often it cries wolf."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.gate.baseline import COLUMNS, read_baseline, write_text
from harness.gate.compare import DEFAULT_RULES, FALSE_ALARMS, Comparison, compare, parse_rule
from harness.gate.measured import measured
from harness.results.metrics import detection
from harness.running.trimming import flagged
from harness.seeds import derive
from reports.gate import as_junit, as_markdown, as_text
from tests.conftest import plug_in

RULES = [parse_rule(text) for text in DEFAULT_RULES]


def rows(values: dict[str, Any], method: str = "mine", task: str = "moons", **changes: Any) -> pd.DataFrame:
    """Rows of one cell: each metric's values by seed."""
    shared = {"task": task, "task_spec": task, "task_params": "{}", "data": "", "protocol": "fair", "preset": "fast",
              "method": method, "status": "ok", "error": "", "machine": "box"}  # fmt: skip
    made = [
        {**shared, "seed": seed, "metric": metric, "value": value, **changes}
        for metric, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(made, columns=COLUMNS)


def verdicts(base: dict[str, Any], new: dict[str, Any], *rules: str, **changes: Any) -> dict[str, str]:
    found = compare(rows(base), rows(new, **changes), [parse_rule(rule) for rule in rules] or RULES)
    return {line.metric: line.verdict for line in found.lines}


A = np.array([0.91, 0.95, 0.93, 0.90, 0.94])


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
    assert "one seed: no interval" in as_text(found)


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


def noise(k: int, rng: np.random.Generator) -> Comparison:
    """Nine lines of five seeds that differ by chance alone, more widely than the tolerance."""
    quality = {metric: rng.normal(0.8, 0.05, (2, 3, 5)) for metric in ("auroc", "detection_accuracy", "accuracy")}
    sides = [
        pd.concat([rows({m: v[side, i] for m, v in quality.items()}, method=f"m{i}") for i in range(3)])
        for side in range(2)
    ]
    return compare(sides[0], sides[1], RULES)


def test_equals_seldom_fail_when_scores_are_noise() -> None:
    rng = np.random.default_rng(0)
    failed = sum(noise(k, rng).exit_code == 1 for k in range(100))
    assert failed <= 5


@cache
def scored(task: str, seed: int, method: str, draw: int) -> dict[str, float]:
    """Detection metrics of a randomised method that draws again, on the same data and model."""
    made = harness.task(task, preset="smoke")
    split, truth = loaded(task, seed)
    view = viewed(task, seed).fresh(derive("draw", method, draw))
    scores = harness.method(method).score(view)
    noisy = truth != split.train.labels.numpy()
    return detection(scores, flagged(scores, made.budget, draw), noisy)


@cache
def loaded(task: str, seed: int) -> Any:
    return harness.task(task, preset="smoke").load(seed)


@cache
def viewed(task: str, seed: int) -> harness.View:
    made = harness.task(task, preset="smoke")
    split, _ = loaded(task, seed)
    return made.view(made.train(split, None, seed), split)


def test_equals_seldom_fail_when_real_detectors_draw_anew() -> None:
    """100 A/A comparisons of an isolation forest of few trees and of random scores, at the default tolerance."""
    methods = ("outlier_iforest[n_estimators=5]", "random")

    def side(draw: int) -> pd.DataFrame:
        parts = []
        for task in ("moons", "blobs"):
            for method in methods if task == "blobs" else ["random"]:
                found = [scored(task, seed, method, draw) for seed in range(5)]
                columns = {metric: [each[metric] for each in found] for metric in ("auroc", "detection_accuracy")}
                parts.append(rows(columns, method=method, task=task))
        return pd.concat(parts)

    comparisons = [compare(side(2 * k), side(2 * k + 1), RULES) for k in range(100)]
    assert sum(found.exit_code == 1 for found in comparisons) <= 5
    aurocs = [line for found in comparisons for line in found.lines if line.metric == "auroc"]
    assert not any(line.verdict == "same" for line in aurocs)  # they do draw again


DETECTOR = """
import numpy as np

def mine(view):
    return -view.probs[np.arange(view.n), view.{labels}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plug_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(DETECTOR.format(labels="labels"))
    run("before")
    return tmp_path


def run(out: str, tasks: str = "moons", methods: str = "mine,random") -> None:
    assert main(["run", "--plugin", "mine.py", "--methods", methods, "--tasks", tasks, "--preset", "smoke",
                 "--seeds", "3", "--out", out]) == 0  # fmt: skip


def test_a_build_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline, a small bug, an unrelated change, other tasks."""
    assert main(["baseline", "write", "before", "baseline.json"]) == 0
    capsys.readouterr()
    run("same")
    assert main(["compare", "baseline.json", "same"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No worse: 6 same."

    Path("mine.py").write_text(DETECTOR.format(labels="labels").replace("return -", "faster = True\n    return -"))
    run("unrelated")
    assert main(["compare", "baseline.json", "unrelated", "--plugin", "mine.py"]) == 0

    Path("mine.py").write_text(DETECTOR.format(labels="predictions"))
    run("bug")
    capsys.readouterr()
    assert main(["compare", "baseline.json", "bug"]) == 1
    out = capsys.readouterr().out
    worst = out.splitlines()[0].split()
    assert worst[:4] == ["worse", "moons", "smoke", "mine"]
    assert "random" not in out

    run("others", tasks="blobs")
    capsys.readouterr()
    assert main(["compare", "baseline.json", "others"]) == 2
    assert "Nothing comparable: no cell in common." in capsys.readouterr().out
    assert main(["compare", "before", "bug", "--methods", "random"]) == 0
    assert main(["compare", "before", "bug", "--methods", "all,-mine"]) == 0
    assert main(["compare", "before", "bug", "--methods", "mi*"]) == 1


def test_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(DETECTOR.format(labels="labels").replace("return -", "return "))
    run("bug")
    capsys.readouterr()
    assert main(["compare", "before", "bug", "--format", "junit", "--output", "gate.xml"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Worse: ")
    suite = ElementTree.parse("gate.xml").getroot()[0]
    cases = {case.get("name"): case for case in suite}
    assert (suite.get("tests"), len(cases)) == ("6", 6)
    assert cases["mine auroc"].find("failure") is not None
    assert cases["random auroc"].find("failure") is None
    assert suite.get("failures") == str(len(suite.findall("*/failure")))
    assert suite.get("skipped") == str(len(suite.findall("*/skipped")))
    assert main(["compare", "before", "bug", "--format", "md"]) == 1
    assert "| **worse** " in capsys.readouterr().out


def test_formats_escape(tmp_path: Path) -> None:
    found = compare(rows({"auroc": A}, method="a|b<&>"), rows({"auroc": A - 0.5}, method="a|b<&>"), RULES)
    assert ElementTree.fromstring(as_junit(found))[0][0].get("name") == "a|b<&> auroc"
    assert r"a\|b<&>" in as_markdown(found)


def test_a_baseline_keeps_what_matters(folder: Path) -> None:
    main(["baseline", "write", "before", "b.json"])
    text = Path("b.json").read_text()
    content = json.loads(text)
    assert content["made"]["torch"]
    assert len(text) < 8000
    assert '"auroc": {"0": ' in text  # one line per metric
    ours, theirs = read_baseline("b.json"), measured("before")
    keys = ["task", "method", "metric", "seed"]
    both = ours.merge(theirs, on=keys)
    assert len(both) == len(ours) == len(theirs)
    quality = ~both["metric"].str.contains("_seconds|_mib")
    assert (both["value_x"] - both["value_y"])[quality].abs().max() < 1e-6
    assert write_text(ours, content["made"]) == text  # reading and writing changes nothing


def test_update_replaces_and_keeps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["baseline", "write", "before", "b.json"])
    run("more", tasks="blobs", methods="mine")
    assert main(["baseline", "update", "more", "b.json"]) == 0
    assert main(["compare", "before", "b.json"]) == 0
    assert main(["compare", "more", "b.json"]) == 0
    capsys.readouterr()
    assert main(["baseline", "update", "more", "b.json"]) == 0
    assert "b.json: 3 cells of more" in capsys.readouterr().err
    capsys.readouterr()
    before = Path("b.json").read_text()
    assert main(["baseline", "write", "more", "b.json"]) == 2
    assert "b.json is there already; `baseline update` changes it" in capsys.readouterr().err
    assert main(["baseline", "update", "more", "absent.json"]) == 2
    assert Path("b.json").read_text() == before


def test_stale_results_make_no_baseline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(DETECTOR.format(labels="predictions"))
    assert main(["baseline", "write", "before", "b.json", "--plugin", "mine.py"]) == 2
    assert "3 cells of before come from other code or data than this" in capsys.readouterr().err
    assert not Path("b.json").exists()
    assert main(["compare", "before", "before", "--plugin", "mine.py"]) == 0
    assert "3 cells of before come from other code or data than this" in capsys.readouterr().err
    assert main(["compare", "before", "before", "--plugin", "mine.py", "--strict"]) == 1


def test_a_changed_default_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the name that was asked for, whatever the code at hand now takes as its default."""
    text = (
        DETECTOR.format(labels="labels")
        .replace("(view)", "(view, sign: float = 1.0)")
        .replace("return -", "return -sign * ")
    )
    Path("mine.py").write_text(text)
    run("first")
    assert main(["baseline", "write", "first", "first.json", "--plugin", "mine.py"]) == 0
    Path("mine.py").write_text(text.replace("= 1.0", "= -1.0"))
    run("second")
    for base in ("first", "first.json"):
        assert main(["compare", base, "second", "--plugin", "mine.py"]) == 1
    # what was asked for by its default's value is the same thing
    Path("mine.py").write_text(text)
    run("explicit", methods="mine[sign=1],random")
    assert main(["compare", "first.json", "explicit"]) == 0
    # two sets of parameters under one name are told apart by nobody
    run("first", methods="mine")
    Path("mine.py").write_text(text.replace("= 1.0", "= -1.0"))
    run("first", methods="mine")
    capsys.readouterr()
    assert main(["compare", "first.json", "first", "--methods", "mine"]) == 2
    assert "several sets of parameters under this name" in capsys.readouterr().out
    assert main(["baseline", "write", "first", "both.json", "--plugin", "mine.py"]) == 2
    assert not Path("both.json").exists()


def test_what_is_gone_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = rows({"auroc": A, "accuracy": A})
    found = compare(base, rows({"accuracy": A}), RULES)
    assert [(line.metric, line.verdict) for line in found.lines] == [("auroc", "not compared"), ("accuracy", "same")]
    assert (found.exit_code, found.missing) == (2, ["moons × mine (auroc)"])
    found = compare(base, rows({"auroc": A[:1] - 0.01, "accuracy": A[:1]}), RULES)
    assert "4 of BASE's 5 seeds are not in NEW" in found.lines[0].note
    assert (found.exit_code, found.missing) == (2, ["moons × mine (seed 1, 2, 3, 4)"])
    run("less", methods="random")
    assert main(["compare", "before", "less"]) == 2
    assert "Incomplete: 3 same, 1 missing." in capsys.readouterr().out
    assert main(["compare", "before", "less", "--allow-missing"]) == 0
    assert main(["compare", "before", "less", "--format", "junit", "--output", "gate.xml"]) == 2
    assert len(ElementTree.parse("gate.xml").getroot().findall("*/*/error")) == 1
    run("others", tasks="blobs")
    assert main(["compare", "before", "others", "--format", "junit", "--output", "gate.xml"]) == 2
    assert ElementTree.parse("gate.xml").getroot()[0].get("errors") == "3"
    assert main(["compare", "before", "less", "--methods", "mine2"]) == 2
    assert "--methods mine2 leaves nothing of before; it has mine, random" in capsys.readouterr().err


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


def test_failures_make_no_baseline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("def mine(view):\n    raise ValueError('\\x1b[31mred')\n")
    command = [
        "run",
        "--plugin",
        "mine.py",
        "--methods",
        "mine,random",
        "--preset",
        "smoke",
        "--seeds",
        "3",
        "--out",
        "bad",
    ]
    assert main(command) == 1
    assert main(["baseline", "write", "bad", "b.json"]) == 2
    assert "3 cells of bad failed (mine on moons, seed 0: ValueError" in capsys.readouterr().err
    assert main(["compare", "before", "bad", "--format", "junit", "--output", "gate.xml"]) == 1
    assert len(ElementTree.parse("gate.xml").getroot().findall("*/*/failure")) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "neither a results folder"),
        ('{"a": 1}', "neither a results folder"),
        ('{"influence-harness-baseline": 1', "not a readable baseline"),
        ('{"influence-harness-baseline": 1, "sections": [{"task": "moons"}]}', "not a readable baseline"),
        ('{"influence-harness-baseline": 1, "sections": 3}', "not a readable baseline"),
        ('{"influence-harness-baseline": 2, "sections": []}', "of version 2; this harness reads 1"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    assert main(["compare", str(path), str(path)]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "absent"), str(path)]) == 2
