"""Figures of raw scores and of costs, against loops and libraries; how figures are stored."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.results.folder import Results
from harness.results.planes import planes
from harness.results.scored import Experiment, ScoredMethod, experiments, with_truth
from harness.seeds import derive
from harness.selection.plan import make_plan
from reports.figures.correlation import correlation_figure
from reports.figures.cost import cost_figure, pareto
from reports.figures.distributions import distribution_figure
from reports.figures.inspection import GRID, _found, _precision, inspection_figure, precision_recall_figure
from reports.figures.planes import plane_figure
from reports.figures.style import best_and_controls, encoded, interval_of


def experiment(seeds: int = 3, n: int = 60) -> Experiment:
    """Scores of several quality, with ties, on random wrong labels."""
    made = Experiment("Some task", "some[spread=0.2]", "fair", "fast")
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        noisy = rng.random(n) < 0.3
        made.noisy[seed] = noisy
        drawn = rng.normal(size=n)
        for name, scores in (
            ("good", 3 * noisy + drawn),
            ("rounded", (noisy + drawn).round()),
            ("bad", drawn - noisy),
            ("random", rng.normal(size=n)),
            ("constant", np.zeros(n)),
        ):
            made.methods.setdefault(name, ScoredMethod(f"The {name}", {})).scores[seed] = scores
    return made


def test_found_and_precision_are_those_of_a_reviewer_who_goes_down_the_list() -> None:
    scores, noisy = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False, False])
    at = {0: 0.0, 0.2: 0.5, 0.4: 0.5, 0.6: 1.0, 0.8: 1.0, 1.0: 1.0}
    found = _found(scores, noisy)
    for share, expected in at.items():
        assert found[np.argmin(np.abs(GRID - share))] == pytest.approx(expected)
    precision = _precision(scores, noisy)
    assert precision[np.argmin(np.abs(GRID[1:] - 0.5))] == pytest.approx(1.0)  # the first sample is wrong
    assert precision[-1] == pytest.approx(2 / 3)  # the second wrong one is the third sample


def test_equal_scores_count_as_all_their_orders_do_on_average() -> None:
    scores, noisy = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([False, True, False, True, True])
    orders = [np.array([0, *order, 4]) for order in permutations([1, 2, 3])]
    mean = np.mean([np.cumsum(noisy[order]) / 3 for order in orders], axis=0)
    found = np.interp(np.arange(1, 6) / 5, GRID, _found(scores, noisy))
    np.testing.assert_allclose(found, mean, atol=1e-9)


def test_curves_of_scores(tmp_path: Path) -> None:
    some = experiment()
    for draw, last in ((inspection_figure, 100.0), (precision_recall_figure, None)):
        figure = draw([some, some])
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert {"The good", "The rounded", "The bad", "The random", "The constant"} <= set(names)
        axes = figure.axes[0]
        assert "Some task [spread=0.2]" in axes.get_title()
        assert "3 seeds" in axes.get_title()
        curves = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert curves["The good"][100] > curves["The bad"][100]
        if last is not None:
            assert {curve[-1] for curve in curves.values()} == {last}
    share = 100 * np.mean([noisy.mean() for noisy in some.noisy.values()])
    curves = {line.get_label(): line.get_ydata() for line in precision_recall_figure([some]).axes[0].lines}
    np.testing.assert_allclose(curves["The constant"], share)
    with pytest.raises(RequestError, match="nothing stored has scores and known wrong labels"):
        inspection_figure([])


def test_only_known_truth_is_drawn() -> None:
    some = experiment()
    some.noisy[1][:] = False
    known = with_truth([some, Experiment("t", "t", "fair", "fast", {}, dict(some.methods))])
    assert [sorted(each.noisy) for each in known] == [[0, 2]]
    assert all(sorted(method.scores) == [0, 2] for method in known[0].methods.values())


def test_distributions_have_area_one_and_their_auroc() -> None:
    figure = distribution_figure([experiment()])
    shown = [axes for axes in figure.axes if axes.patches]
    titles = [axes.get_title().split("\n") for axes in shown]
    assert [title[0] for title in titles] == ["The good", "The rounded", "The constant", "The bad"]
    assert titles[2][1] == "AUROC 0.500, mean 0.500"
    assert float(titles[0][1].split()[1].rstrip(",")) > 0.9


def test_correlations_are_spearmans_mean_over_seeds() -> None:
    some = experiment()
    figure = correlation_figure([some])
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert sorted(names) == ["The bad", "The good", "The random", "The rounded"]  # the constant one has no ranks
    matrix = np.asarray(axes.images[0].get_array())
    good, rounded = (some.methods[name].scores for name in ("good", "rounded"))
    expected = np.mean([spearmanr(good[seed], rounded[seed]).statistic for seed in good])
    assert matrix[names.index("The good"), names.index("The rounded")] == pytest.approx(expected)
    assert len(figure.axes) == 2  # with a colour bar
    alone = Experiment("t", "t", "fair", "fast", some.noisy, {"good": some.methods["good"]})
    with pytest.raises(RequestError, match="scores of two methods"):
        correlation_figure([alone])


def test_the_pareto_front_is_what_no_point_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        seconds, quality = rng.integers(1, 9, 12).astype(float), rng.integers(0, 9, 12).astype(float)
        front = pareto(seconds, quality)
        beaten = [
            any(
                seconds[j] <= seconds[i]
                and quality[j] >= quality[i]
                and (seconds[j] < seconds[i] or quality[j] > quality[i])
                for j in range(12)
            )
            for i in range(12)
        ]
        points = {(seconds[i], quality[i]) for i in range(12) if not beaten[i]}
        assert {(seconds[i], quality[i]) for i in front} == points
        assert len(front) == len(points)


def test_few_methods_are_chosen_by_quality_and_controls_stay() -> None:
    quality = {f"m{i}": i / 20 for i in range(20)} | {"random": 0.0, "oracle": 1.0, "none": 0.0}
    assert best_and_controls(quality, 5) == ["m19", "m18", "m17", "oracle", "random"]


def test_intervals_stay_where_a_metric_can_be() -> None:
    mean, bar = interval_of(np.array([1.0, 0.9, 1.0]))
    assert bar is not None
    assert mean + bar[1, 0] == pytest.approx(1.0)
    assert mean - bar[0, 0] == pytest.approx(mean - 4.302652729696142 * np.std([1, 0.9, 1], ddof=1) / 3**0.5)
    assert interval_of(np.array([0.5])) == (0.5, None)


def test_files_keep_text_as_text() -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "Suspects")
    assert b">Suspects<" in encoded(figure, "svg")
    pdf = encoded(figure, "pdf")
    assert b"/FontFile2" in pdf  # a TrueType font, Type 42
    assert b"/Type3" not in pdf.replace(b" ", b"")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures") / "out"
    methods = "self_confidence,outlier_iforest,exact_hessian,random,none"
    for protocol in ("fair", "paper"):
        harness.run(methods, "blobs", 2, preset="smoke", protocol=protocol, out=out)
    harness.run(methods, "blobs[budget=0.1|0.2]", 2, preset="smoke", out=out)
    return out


def test_every_figure_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1", "5", "inspection", "precision-recall", "cost", "scores", "correlation", "protocols"):
        path = tmp_path / f"{name}.png"
        assert main(["report", str(run), "--figure", name, "--output", str(path)]) == 0
        assert path.stat().st_size > 10_000
    assert main(["report", str(run), "--figure", "ranks"]) == 2
    assert "ranks need 5 tasks and 3 methods" in capsys.readouterr().err
    assert main(["report", str(run), "--figure", "inspect"]) == 2
    assert "did you mean 'inspection'?" in capsys.readouterr().err


def test_a_sweep_over_budgets_is_one_experiment(run: Path) -> None:
    found = experiments(Results.read(run))
    assert [(each.spec, each.protocol) for each in found] == [("blobs", "fair"), ("blobs", "paper")]
    assert all(sorted(method.scores) == [0, 1] for each in found for method in each.methods.values())
    figure = cost_figure(Results.read(run).frame)
    assert len([axes for axes in figure.axes if axes.get_xlabel()]) == 2
    assert not any("budget" in axes.get_title() for axes in figure.axes)


def test_figure_1_shows_the_gradients_of_the_run(run: Path) -> None:
    """Of logistic regression without intercept: (p − y) x, whose distances the two components keep."""
    found = planes(Results.read(run), "outlier_iforest", "exact_hessian")
    paper = next(plane for plane in found if "protocol paper" in plane.title)
    assert paper.explained == pytest.approx(1)
    (cell,) = make_plan("random", "blobs", [0], "paper", "smoke")
    task = cell.task
    split, truth = task.load(derive("data", "blobs", 0))
    np.testing.assert_allclose(paper.train, split.train.inputs.numpy())
    np.testing.assert_array_equal(paper.noisy, truth != paper.labels)
    view = task.view(task.train(split, None, derive("model", "blobs", 0)), split)
    gradients = (view.probs[:, 1] - paper.labels)[:, None] * paper.train
    np.testing.assert_allclose(pdist(paper.gradients), pdist(gradients), rtol=1e-4, atol=1e-6)
    figure = plane_figure(found)
    letters = [axes.get_title(loc="left")[0] for axes in figure.axes]
    assert letters == list("ABCDEFGH")
    assert paper.influence is not None


def test_figure_1_without_such_data(tmp_path: Path) -> None:
    harness.run("outlier_iforest", "digits", 1, preset="smoke", out=tmp_path)
    with pytest.raises(RequestError, match="two inputs per sample"):
        planes(Results.read(tmp_path), "outlier_iforest", "exact_hessian")


def test_cost_needs_two_methods() -> None:
    from harness.results.table import COLUMNS

    with pytest.raises(RequestError, match="both AUROC, or LDS, and cost"):
        cost_figure(pd.DataFrame(columns=list(COLUMNS)))
