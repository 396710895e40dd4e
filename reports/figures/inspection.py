"""Wrong labels found against samples inspected, and precision against recall: what a ranking is worth to a reviewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.results.metrics import detection, inspected
from harness.results.scored import Experiment
from reports.figures.style import best_and_controls, grid_of, label, legend_below, styles, task_label, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 401)
SHOWN = 3
"""The axis ends at this multiple of the share of wrong labels. Further on, curves are too close to differ."""
NEEDS = (
    "nothing stored has scores and known wrong labels; `python -m harness run --methods all --tasks moons` gives both"
)


def inspection_figure(experiments: Sequence[Experiment]) -> Figure:
    """The share of the wrong labels found by the share of samples inspected, most suspicious first; means over seeds.

    The axis ends at three times the share of wrong labels, where good rankings have found nearly all of them. A group
    of equal scores counts as all its orders do on average.

    Args:
        experiments: as from `harness.results.scored.experiments`, of known wrong labels.

    Raises:
        RequestError: no experiment is given.
    """

    def draw(axes: Axes, experiment: Experiment, specs: Sequence[str], looks: Mapping[str, Any]) -> None:
        share = float(np.mean([noisy.mean() for noisy in experiment.noisy.values()]))
        axes.plot([0, 100 * share, 100], [0, 100, 100], color="0.75", lw=4, label="best possible")
        for place, spec in enumerate(specs):
            found = [_found(scores, experiment.noisy[seed]) for seed, scores in experiment.methods[spec].scores.items()]
            look = {**looks[spec], "markevery": (0.02 * place, 0.2)}  # no marker hides another one
            axes.plot(100 * GRID, 100 * np.mean(found, axis=0), label=_label(experiment, spec), **look)
        axes.set_xlim(0, 100 * min(1, SHOWN * share))
        axes.set_ylim(0, 103)
        axes.set_xlabel("samples inspected, %")
        axes.set_ylabel("wrong labels found, %")

    return _figure(experiments, draw, "found_area")


def precision_recall_figure(experiments: Sequence[Experiment]) -> Figure:
    """Precision by recall as more and more samples are inspected; means over seeds.

    Args, Raises: as `inspection_figure`.
    """

    def draw(axes: Axes, experiment: Experiment, specs: Sequence[str], looks: Mapping[str, Any]) -> None:
        for place, spec in enumerate(specs):
            curves = [
                _precision(scores, experiment.noisy[seed]) for seed, scores in experiment.methods[spec].scores.items()
            ]
            look = {**looks[spec], "markevery": (0.02 * place, 0.2)}  # no marker hides another one
            axes.plot(100 * GRID[1:], 100 * np.mean(curves, axis=0), label=_label(experiment, spec), **look)
        axes.set_xlabel("recall: wrong labels found, %")
        axes.set_ylabel("precision: wrong among inspected, %")
        axes.set_ylim(0, 103)

    return _figure(experiments, draw, "average_precision")


def _figure(experiments: Sequence[Experiment], draw: Any, metric: str) -> Figure:
    if not experiments:
        raise RequestError(NEEDS)
    figure, grid = grid_of(len(experiments))
    specs = [
        [spec for spec in best_and_controls(_quality(experiment, metric)) if spec != "oracle"]
        for experiment in experiments
    ]
    looks = styles({spec for some in specs for spec in some})
    for axes, experiment, shown in zip(grid, experiments, specs, strict=True):
        draw(axes, experiment, shown, looks)
        titled(axes, heading(experiment, len(shown)))
    legend_below(figure, grid)
    return figure


def heading(experiment: Experiment, shown: int) -> str:
    """A panel's title: the task with its parameters, protocol, preset, seeds, and how many methods are left out."""
    methods, seeds = len(experiment.methods), len(experiment.noisy)
    text = (
        f"{task_label(experiment.title, experiment.spec)}\nprotocol {experiment.protocol}, preset {experiment.preset}, "
    )
    text += f"{seeds} seed{'s' * (seeds != 1)}"
    left_out = methods - shown - ("none" in experiment.methods)
    return text if left_out <= 0 else f"{text}, {shown} of {methods} methods"


def _label(experiment: Experiment, spec: str) -> str:
    return label(experiment.methods[spec].title, spec)


def _quality(experiment: Experiment, metric: str) -> dict[str, float]:
    quality = {}
    for spec, method in experiment.methods.items():
        values = [
            detection(scores, np.zeros(len(scores), bool), experiment.noisy[seed]).get(metric, 0.0)
            for seed, scores in method.scores.items()
        ]
        quality[spec] = float(np.mean(values))
    return quality


def _found(scores: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    seen, found = inspected(scores, noisy)
    return np.asarray(np.interp(GRID, seen / len(noisy), found / noisy.sum()))


def _precision(scores: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Precision at each recall of the grid without 0. Between the ends of groups, found and seen grow in proportion."""
    seen, found = inspected(scores, noisy)
    first = np.append(True, np.diff(found) > 0)  # where recall stands still, the first point is the reviewer's
    wanted = GRID[1:] * noisy.sum()
    at = np.searchsorted(found[first], wanted, side="left")
    ends, before = np.flatnonzero(first)[at], np.flatnonzero(first)[at] - 1
    part = (wanted - found[before]) / (found[ends] - found[before])
    return np.asarray(wanted / (seen[before] + part * (seen[ends] - seen[before])))
