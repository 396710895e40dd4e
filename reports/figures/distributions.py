"""Scores of wrong and of right labels: how far a method pulls them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError
from harness.results.metrics import detection
from harness.results.scored import Experiment
from reports.figures.inspection import NEEDS, heading
from reports.figures.style import CONTROL_STYLES, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "#56B4E9", "#D55E00"
BINS = 40
TAIL = 0.5
"""Per cent of the scores beyond each end of the axis, which count in the first and the last bin."""
ACROSS = 6


def distribution_figure(experiments: Sequence[Experiment]) -> Figure:
    """Histograms of one seed's scores: one row per experiment, one panel per method, best mean AUROC first.

    Both histograms have area 1, so that few wrong labels are seen beside many right ones.

    Args:
        experiments: as from `harness.results.scored.experiments`, of known wrong labels.

    Raises:
        RequestError: no experiment is given.
    """
    from matplotlib.figure import Figure

    if not experiments:
        raise RequestError(NEEDS)
    figure = Figure(figsize=(2.2 * ACROSS, 2.3 * len(experiments) + 0.4), layout="constrained", dpi=130)
    for block, experiment in zip(figure.subfigures(len(experiments), 1, squeeze=False)[:, 0], experiments, strict=True):
        means = {spec: _auroc(experiment, spec, list(method.scores)) for spec, method in experiment.methods.items()}
        seed = _telling_seed(experiment)
        here = [
            spec for spec, method in experiment.methods.items() if seed in method.scores and spec not in CONTROL_STYLES
        ]
        shown = sorted(here, key=lambda spec: -means[spec])[:ACROSS]
        title = heading(experiment, len(shown)).replace("\n", ", ")
        block.suptitle(f"{title}; scores of seed {seed}, each histogram with area 1", fontsize=9)
        for axes, spec in zip(block.subplots(1, ACROSS, squeeze=False)[0], [*shown, *[None] * ACROSS], strict=False):
            if spec is None:
                axes.set_axis_off()
                continue
            _histograms(axes, experiment.methods[spec].scores[seed], experiment.noisy[seed])
            name, here_alone = label(experiment.methods[spec].title, spec), _auroc(experiment, spec, [seed])
            axes.set_title(f"{name}\nAUROC {here_alone:.3f}, mean {means[spec]:.3f}", fontsize=7)
        handles, names = block.axes[0].get_legend_handles_labels()
        block.legend(handles, names, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def _auroc(experiment: Experiment, spec: str, seeds: Sequence[int]) -> float:
    """A method's mean AUROC over seeds."""
    scores = experiment.methods[spec].scores
    nothing = {seed: np.zeros(len(scores[seed]), bool) for seed in seeds}
    return float(np.mean([detection(scores[s], nothing[s], experiment.noisy[s])["auroc"] for s in seeds]))


def _telling_seed(experiment: Experiment) -> int:
    """The first seed in which most methods give different scores: a base model that learnt nothing gives equal ones."""

    def equal(seed: int) -> int:
        return sum(len(np.unique(m.scores[seed])) < 3 for m in experiment.methods.values() if seed in m.scores)

    return min(sorted(experiment.noisy), key=equal)


def _histograms(axes: Axes, scores: np.ndarray, noisy: np.ndarray) -> None:
    finite = scores[np.isfinite(scores)]
    low, high = np.percentile(finite, [TAIL, 100 - TAIL]) if len(finite) else (0.0, 0.0)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, BINS + 1)
    for mine, colour, name in ((~noisy, RIGHT, "right label"), (noisy, WRONG, "wrong label")):
        inside = np.clip(np.nan_to_num(scores[mine], nan=low, posinf=high, neginf=low), low, high)
        axes.hist(inside, edges.tolist(), density=True, histtype="stepfilled", color=colour, alpha=0.55, label=name)
    axes.set_yticks([])
    axes.tick_params(labelsize=6)
    axes.set_xlabel("score", fontsize=7)
