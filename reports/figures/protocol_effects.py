"""What the protocol alone changes: each method's AUROC in both protocols, joined by a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError
from reports.comparison import Row, Section
from reports.figures.style import CONTROL_STYLES, interval_of, label, legend_below, task_label, titled
from reports.protocols import pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, FAIR = "#D55E00", "#0072B2"


def protocol_figure(sections: Sequence[Section]) -> Figure:
    """One panel per task that was run in both protocols, one line per method, with Student's 95 % intervals.

    Args:
        sections: as from `reports.comparison.sections`.

    Raises:
        RequestError: no task was run in both protocols.
    """
    import seaborn
    from matplotlib.figure import Figure

    found = [(fair, paper, both) for fair, paper in pairs(sections) if (both := _rows(fair, paper))]
    if not found:
        raise RequestError(
            "no task here was run in both protocols; `python -m harness run --protocol paper` with the same --methods, "
            "--tasks and --out adds the other one"
        )
    across = min(2, len(found))
    down = -(-len(found) // across)
    most = max(len(both) for _, _, both in found)
    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(6.2 * across, down * (0.21 * most + 1.2) + 0.4), layout="constrained", dpi=130)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, (fair, _, both) in zip(grid, found, strict=False):
        names = [label(row.title, row.spec) for row, _ in both]
        for place, pair in enumerate(both):
            _line(axes, place, *pair)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.invert_yaxis()
        axes.axvline(0.5, color="0.6", lw=0.8, ls=":")
        axes.set_xlabel("AUROC")
        seeds = f"{len(fair.seeds)} seed{'s' * (len(fair.seeds) != 1)}"
        titled(axes, f"{task_label(fair.title, fair.spec)}\npreset {fair.preset}, {seeds}", 70)
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    legend_below(figure, grid[:1])
    return figure


def _rows(fair: Section, paper: Section) -> list[tuple[Row, Row]]:
    """Rows that both sections have with an AUROC, best of `fair` first."""
    theirs = {row.spec: row for row in paper.rows}
    both = [(row, theirs[row.spec]) for row in fair.rows if row.spec in theirs and row.spec not in CONTROL_STYLES]
    return [(row, other) for row, other in both if "auroc" in row.summaries and "auroc" in other.summaries]


def _line(axes: Axes, place: int, fair: Row, paper: Row) -> None:
    means = [row.summaries["auroc"].mean for row in (paper, fair)]
    axes.plot(means, [place, place], color="0.75", lw=2, zorder=1)
    for row, colour, marker, name in ((paper, PAPER, "o", "protocol paper"), (fair, FAIR, "s", "protocol fair")):
        values = np.array(list(row.values["auroc"].values()))
        mean, bar = interval_of(values)
        text = name if place == 0 else None
        axes.errorbar(mean, place, xerr=bar, fmt=marker, color=colour, ms=5, elinewidth=1.2, label=text, zorder=2)
