"""Comparisons across sections: ranks over tasks, a baseline, protocols and their quirks, the overview."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy.stats import friedmanchisquare, ttest_rel

import harness
from harness.cli import main
from harness.errors import RequestError
from reports.against import against
from reports.comparison import Section, sections
from reports.figures.protocol_effects import protocol_figure
from reports.figures.ranks import rank_figure
from reports.markdown import report
from reports.over_tasks import over_tasks
from reports.overall import overall
from reports.overview import overview
from reports.protocols import protocol_report, quirks
from tests.test_reports import cell, frame, line

RNG = np.random.default_rng(0)


def many(tasks: int = 6, seeds: int = 3, failing: str | None = None) -> list[Section]:
    """Sections of four methods with known order, and random noise."""
    parts = []
    for t in range(tasks):
        cells: dict[tuple[str, int], dict[str, float] | str] = {}
        for i, name in enumerate([*"abcd", "random"]):
            for seed in range(seeds):
                auroc = 0.9 - 0.05 * i + 0.01 * float(RNG.normal())
                cells[name, seed] = "no luck" if name == failing and t == 0 else cell(auroc)
        parts.append(frame(cells, task=f"task{t}"))
    return sections(pd.concat(parts))


def test_ranks_over_tasks_and_their_tests() -> None:
    (found,) = overall(many())
    values = found.values.drop(index="random").round(3)  # a control
    expected = values.rank(ascending=False).mean(axis=1)
    pd.testing.assert_series_equal(found.mean_ranks.sort_index(), expected.sort_index())
    assert found.mean_ranks.index[0] == "a"
    assert found.wins.sum() >= len(found.tasks) == 6
    assert found.friedman == pytest.approx(friedmanchisquare(*values.to_numpy()).pvalue)
    assert found.critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 6)), rel=1e-3)  # q of Demšar 2006, Table 5
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(-values.T)
    ranks = found.mean_ranks
    for one in "abcd":
        for other in "abcd":
            differ = abs(ranks[one] - ranks[other]) > found.critical
            assert differ == (p_values.loc[one, other] < 0.05)


def test_a_method_that_failed_has_no_rank_and_is_seen() -> None:
    (found,) = overall(many(failing="a"))
    assert list(found.mean_ranks.index) == ["b", "c", "d"]
    (text,) = over_tasks(many(failing="a"))
    failed = line(text, "a")
    assert failed[1:3] == ["—", "—"]
    assert failed[-1] == "5"
    assert "complete results on all 6 tasks" in text


def test_few_tasks_are_not_tested() -> None:
    (found,) = overall(many(tasks=3))
    assert found.friedman is found.critical is None
    (text,) = over_tasks(many(tasks=3))
    assert "ranks are not tested" in text
    assert overall(many(tasks=1)) == []
    with pytest.raises(RequestError, match="ranks need 5 tasks"):
        rank_figure(many(tasks=3))


def test_the_diagram_names_every_ranked_method() -> None:
    figure = rank_figure(many())
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(f"{name} (" in texts or f") {name}" in texts for name in "abcd")
    assert "over 6 tasks" in figure.axes[0].get_title()


def test_a_sweep_counts_once_among_the_tasks(tmp_path: Path) -> None:
    data = harness.run("outlier_l1,outlier_l2", "moons[budget=0.1|0.2],blobs", 1, preset="smoke", out=tmp_path)
    (found,) = overall(sections(data))
    assert sorted(task.partition("[")[0] for task in found.tasks) == ["blobs", "moons"]


def test_differences_to_a_baseline_are_paired_and_corrected() -> None:
    drawn = {name: RNG.normal(mean, 0.02, 6) for name, mean in (("a", 0.9), ("b", 0.8), ("c", 0.81), ("d", 0.8))}
    cells = {(name, seed): cell(float(values[seed])) for name, values in drawn.items() for seed in range(6)}
    text = against(sections(frame(cells)), "b")
    raw = {name: ttest_rel(drawn[name], drawn["b"]).pvalue for name in "acd"}
    ordered = sorted(raw, key=lambda name: raw[name])
    adjusted, before = {}, 0.0
    for place, name in enumerate(ordered):
        before = max(before, min(1.0, raw[name] * (3 - place)))
        adjusted[name] = before
    for name in "acd":
        shown = line(text, name)
        mean = float(np.mean(drawn[name] - drawn["b"]))
        assert f"{mean:+.3f} [" in shown[1]
        assert shown[2] == ("< 0.001" if adjusted[name] < 0.001 else f"{adjusted[name]:.3f}")
        assert shown[1].startswith("**") == (adjusted[name] < 0.05)
    with pytest.raises(RequestError, match="--baseline x has no result here"):
        against(sections(frame(cells)), "x")


def test_one_seed_has_a_difference_and_no_interval() -> None:
    text = against(sections(frame({("a", 0): cell(0.9), ("b", 0): cell(0.8)})), "b")
    assert line(text, "a")[1:3] == ["+0.100", "—"]


def test_quirks_are_what_the_protocols_set_apart() -> None:
    from harness.selection.registry import METHODS, TASKS

    assert quirks(METHODS.get("self_confidence"), None) == {"labels": "predicted"}
    assert quirks(METHODS.get("random"), None) == {}
    assert quirks(METHODS.get("exact_hessian"), None) == {"reference": "train", "sign": -1, "hessian": "outer_product"}
    assert quirks(TASKS.get("blobs"), "smoke") == {
        "n_validation": 0,
        "standardise": True,
        "intercept": False,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("protocols") / "out"
    for protocol in ("fair", "paper"):
        harness.run("self_confidence,random", "blobs", 3, preset="smoke", protocol=protocol, out=out)
    return out


def test_protocols_with_intervals_and_the_commands_for_quirks(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(both), "--compare-protocols"]) == 0
    text = capsys.readouterr().out
    found = {(s.protocol): {row.spec: row for row in s.rows} for s in sections(harness.load_results(both))}
    fair, paper = (found[name]["self_confidence"].values["auroc"] for name in ("fair", "paper"))
    mean = np.mean([fair[seed] - paper[seed] for seed in range(3)])
    assert f"{mean:+.3f} [" in line(text, "Self-Confidence")[3]
    commands = [row for row in text.splitlines() if row.startswith("python -m harness run")]
    assert commands == [
        "python -m harness run --methods 'self_confidence[labels=predicted]' --tasks 'blobs' --seeds 3 --preset smoke "
        f"--out {both}",
        "python -m harness run --methods 'self_confidence,random' --tasks "
        "'blobs[n_validation=0],blobs[standardise=yes],blobs[intercept=no]' --seeds 3 --preset smoke "
        f"--out {both}",
    ]


def test_each_quirk_alone(both: Path) -> None:
    harness.run("self_confidence[labels=predicted]", "blobs", 3, preset="smoke", out=both)
    data = harness.run("self_confidence", "blobs[intercept=no]", 3, preset="smoke", out=both)
    text = protocol_report(sections(data), str(both))
    alone = line(text, "`self_confidence[labels=predicted]`")
    auroc = data[(data["metric"] == "auroc") & (data["protocol"] == "fair") & (data["task_spec"] == "blobs")]
    means = auroc.groupby("method_spec")["value"].mean()
    mean = means["self_confidence[labels=predicted]"] - means["self_confidence"]
    assert f"{mean:+.3f} [" in alone[3]
    assert mean < -0.1
    of_task = next(row for row in text.splitlines() if "`[intercept=no]`" in row)
    assert of_task.startswith("| Self-Confidence ")
    assert "Not run here" not in text
    assert "`blobs[intercept=no]`, protocol fair" not in text  # a task that has a quirk is not compared with itself


def test_the_figure_has_the_worth_of_each_quirk(both: Path) -> None:
    harness.run("self_confidence[labels=predicted]", "blobs", 3, preset="smoke", out=both)
    data = harness.run("self_confidence,random", "blobs[intercept=no]", 3, preset="smoke", out=both)
    figure = protocol_figure(sections(data))
    as_a_whole, alone = (axes for axes in figure.axes if axes.axison)
    assert [text.get_text() for text in as_a_whole.get_yticklabels()] == ["Self-Confidence"]
    names = [text.get_text() for text in alone.get_yticklabels()]
    assert names[0] == "Self-Confidence: [labels=predicted]"
    assert set(names[1:]) == {"Self-Confidence: [intercept=no]"}
    auroc = data[(data["metric"] == "auroc") & (data["protocol"] == "fair") & (data["task_spec"] == "blobs")]
    means = auroc.groupby("method_spec")["value"].mean()
    drawn = alone.containers[0].lines[0].get_xdata()
    assert drawn == pytest.approx([means["self_confidence[labels=predicted]"] - means["self_confidence"]])
    with pytest.raises(RequestError, match="no task here was run in both protocols"):
        protocol_figure(sections(data[data["task_spec"] == "blobs"].query("protocol == 'fair' and method == 'random'")))


def test_one_protocol_alone_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness.run("random", "blobs", 1, preset="smoke", out=tmp_path)
    assert main(["report", str(tmp_path), "--compare-protocols"]) == 2
    assert "no task here was run in both protocols" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--baseline", "randon"]) == 2
    assert "did you mean 'random'?" in capsys.readouterr().err


def test_a_report_of_several_experiments_begins_with_an_overview() -> None:
    cells: dict[tuple[str, int], dict[str, float] | str] = {}
    for seed in range(2):
        cells |= {("a", seed): cell(0.9), ("b", seed): cell(0.8), ("oracle", seed): cell(1.0), ("c", seed): "no"}
    of_tasks = [frame(cells, task=task) for task in ("moons", "blobs")]
    text = report(pd.concat(of_tasks))
    first = text.splitlines()[2:6]
    assert "Highest AUROC" in first[0]
    assert "a 0.900 ± 0.000" in first[2]
    assert "3, 1 incomplete" in first[2]
    assert overview(sections(of_tasks[0])) == []


def test_harness_report_takes_a_baseline(both: Path) -> None:
    assert "# Differences to `random`" in harness.report(both, baseline="random")
    assert "# What the protocol changes" in harness.report(both, compare_protocols=True)
