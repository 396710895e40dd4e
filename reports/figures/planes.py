"""Figure 1: data in the plane, its test set, influence scores, and the gradient space, in four panels per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.results.planes import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
FLAGGED, OTHER = "#E69F00", "0.55"
OUTLIER, INFLUENCE = "outlier_iforest", "exact_hessian"
"""The methods whose flags and scores Figure 1 shows, as in the paper."""


def plane_figure(found: Sequence[Plane]) -> Figure:
    """One row per task: training set, test set, influence by sample, gradient space. Crosses are wrong labels."""
    import seaborn
    from matplotlib.figure import Figure

    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(15, 3.9 * len(found)), layout="constrained", dpi=130)
        blocks = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
        for row, (block, plane) in enumerate(zip(blocks, found, strict=True)):
            block.suptitle(plane.title, fontsize=10)
            letters = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[4 * row % 24 :])
            for axes, draw in zip(block.subplots(1, 4), (_train, _test, _influence, _gradients), strict=True):
                axes.set_title(f"{next(letters)}  {draw(axes, plane)}", fontsize=9, loc="left")
                axes.tick_params(labelsize=7)
                handles, names = axes.get_legend_handles_labels()
                if handles:
                    axes.legend(handles, names, fontsize=7, loc="best", framealpha=0.9)
    return figure


def _train(axes: Axes, plane: Plane) -> str:
    """Draws the panel, and returns its title; so do the other three."""
    for wrong, marker, name in ((False, "o", "right label"), (True, "x", "wrong label")):
        mine = plane.noisy == wrong
        colours = [CLASSES[label % len(CLASSES)] for label in plane.labels[mine]]
        axes.scatter(
            plane.train[mine, 0],
            plane.train[mine, 1],
            c=colours,
            marker=marker,
            s=40 if wrong else 14,
            lw=1.6 if wrong else 0,
        )
        axes.scatter([], [], c="0.3", marker=marker, s=30, label=name)
    return "training set, coloured by given label"


def _test(axes: Axes, plane: Plane) -> str:
    axes.scatter(
        plane.test[:, 0], plane.test[:, 1], c=[CLASSES[label % len(CLASSES)] for label in plane.test_labels], s=8, lw=0
    )
    return "test set"


def _influence(axes: Axes, plane: Plane) -> str:
    title = f"score of {plane.influence_title}; orange: flagged by {plane.outlier_title}"
    if plane.influence is None:
        axes.text(0.5, 0.5, "not stored: run this method, too", ha="center", transform=axes.transAxes, fontsize=8)
        return title
    _marked(axes, np.arange(len(plane.influence)), plane.influence, plane)
    axes.set_xlabel("sample", fontsize=8)
    axes.set_ylabel("score", fontsize=8)
    return title


def _gradients(axes: Axes, plane: Plane) -> str:
    _marked(axes, plane.gradients[:, 0], plane.gradients[:, 1], plane)
    axes.set_xlabel("first principal component", fontsize=8)
    axes.set_ylabel("second principal component", fontsize=8)
    return f"gradient space, {100 * plane.explained:.0f} % of its variance"


def _marked(axes: Axes, x: np.ndarray, y: np.ndarray, plane: Plane) -> None:
    """Samples in orange if the outlier method flags them, as crosses if their label is wrong."""
    for flagged in (False, True):
        for wrong in (False, True):
            mine = (plane.flagged == flagged) & (plane.noisy == wrong)
            name = f"{'wrong' if wrong else 'right'} label, {'flagged' if flagged else 'not flagged'}"
            axes.scatter(
                x[mine],
                y[mine],
                c=FLAGGED if flagged else OTHER,
                marker="x" if wrong else "o",
                s=36 if wrong else 14,
                lw=1.6 if wrong else 0,
                label=name if mine.any() else None,
            )
