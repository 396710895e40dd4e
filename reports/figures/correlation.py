"""Rank correlation of the methods' scores: which methods look at the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError
from harness.results.scored import Experiment
from reports.figures.inspection import heading
from reports.figures.style import label, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def correlation_figure(experiments: Sequence[Experiment]) -> Figure:
    """Spearman's correlation of every pair of methods, mean over seeds; similar methods stand together.

    The order is that of the leaves of an average-linkage clustering of 1 − correlation. Methods with equal scores for
    all samples are left out.

    Args:
        experiments: as from `harness.results.scored.experiments`.

    Raises:
        RequestError: no experiment has two methods.
    """
    from matplotlib.figure import Figure

    found = [(experiment, *_correlations(experiment)) for experiment in experiments]
    found = [(experiment, specs, matrix) for experiment, specs, matrix in found if len(specs) > 1]
    if not found:
        raise RequestError("nothing stored has the scores of two methods; `python -m harness run --methods all` gives")
    size = 0.13 * max(len(specs) for _, specs, _ in found) + 2.2
    across = min(2, len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(across * (size + 0.6), down * size), layout="constrained", dpi=130)
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, (experiment, specs, matrix) in zip(grid, found, strict=False):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        names = [label(experiment.methods[spec].title, spec) for spec in specs]
        axes.set_xticks(range(len(specs)), names, rotation=90, fontsize=5.5)
        axes.set_yticks(range(len(specs)), names, fontsize=5.5)
        left_out = len(experiment.methods) - len(specs)
        without = f", {left_out} methods with equal scores in a seed left out" if left_out else ""
        titled(axes, heading(experiment, len(experiment.methods)) + without, 60)
        bar = figure.colorbar(image, ax=axes, shrink=0.6)
        bar.set_label("Spearman's correlation", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    return figure


def _correlations(experiment: Experiment) -> tuple[list[str], np.ndarray]:
    """Specs in the order of the clustering, and their correlations (m, m)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    by_seed: dict[int, dict[str, np.ndarray]] = {}
    for spec, method in experiment.methods.items():
        for seed, scores in method.scores.items():
            by_seed.setdefault(seed, {})[spec] = np.where(np.isnan(scores), -np.inf, scores)
    specs = sorted(set.intersection(*(set(scores) for scores in by_seed.values()))) if by_seed else []
    specs = [spec for spec in specs if all(len(np.unique(scores[spec])) > 1 for scores in by_seed.values())]
    if len(specs) < 2:
        return specs, np.ones((len(specs), len(specs)))
    matrices = [np.corrcoef([rankdata(scores[spec]) for spec in specs]) for scores in by_seed.values()]
    matrix = np.mean(matrices, axis=0)
    distance = np.clip(1 - (matrix + matrix.T) / 2, 0, 2)
    np.fill_diagonal(distance, 0)
    order = leaves_list(linkage(squareform(distance, checks=False), "average"))
    return [specs[i] for i in order], matrix[np.ix_(order, order)]
