"""Figure 2: flagged images, with their given and their correct labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.results.pictures import Flagged
from reports.published import BUDGETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRONG, RIGHT = "#c0392b", "#1e8449"
FLAGGED_BY = "outlier_iforest"
"""The method whose flagged samples Figure 2 shows, as in the paper."""


def most_like_published(candidates: Sequence[Mapping[str, Any]]) -> int:
    """Which record Figure 2 is drawn from: the paper's budget, the largest preset, the fair protocol, the first seed.

    Args:
        candidates: ``task``, ``task_params``, ``preset``, ``protocol`` and ``seed`` of records.
    """

    def rank(record: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            record["task_params"].get("budget") != BUDGETS.get(record["task"]),
            ("full", "fast", "smoke").index(record["preset"]),
            record["protocol"] != "fair",
            record["seed"],
        )

    return min(range(len(candidates)), key=lambda i: rank(candidates[i]))


def _plain(name: str) -> str:
    """A class's name as plain text: matplotlib would read a formula between two ``$``."""
    return name.replace("_", " ").replace("$", "\\$")


def flagged_grid(rows: Sequence[Flagged]) -> Figure:
    """Flagged images, with the given label above and the correct label below.

    A wrong given label is red, and its correct label is green. A correct given label is grey. If the correct labels
    are not known, a suggested label that differs from the given label is below, and both labels are black.
    """
    from matplotlib.figure import Figure

    widest = max(len(row.images) for row in rows)
    figure = Figure(figsize=(1.15 * widest + 0.4, 2.0 * len(rows)), layout="constrained", dpi=150)
    for subfigure, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        subfigure.suptitle(row.title, fontsize=9, x=0.01, ha="left")
        for axes, image, given, true in zip(
            subfigure.subplots(1, widest, squeeze=False)[0], row.images, row.given, row.true, strict=False
        ):
            axes.imshow(image, interpolation="nearest")
            wrong = given != true
            above, below = (WRONG, RIGHT) if row.known else ("black", "black")
            axes.set_title(_plain(given), color=above if wrong else "0.4", fontsize=8, pad=3)
            same = "label right" if row.known else "the same"
            axes.set_xlabel(_plain(true) if wrong else same, color=below if wrong else "0.4", fontsize=8)
        for axes in subfigure.axes:
            axes.set_xticks([])
            axes.set_yticks([])
            if not axes.images:
                axes.set_axis_off()
    return figure
