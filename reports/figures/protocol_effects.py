"""What the protocol changes: each method's AUROC in both protocols, and what each quirk changes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.spec import changes
from harness.results.statistics import Difference
from reports.comparison import Row, Section
from reports.figures.style import CONTROL_STYLES, interval_of, label, legend_below, task_label, titled
from reports.protocols import change, of_methods, of_task, pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = tuple[str, str, str]
"""Colour, marker and name in the legend."""

PAPER: Look = ("#D55E00", "o", "protocol paper")
FAIR: Look = ("#0072B2", "s", "protocol fair")
OF_METHOD: Look = ("#009E73", "D", "a quirk of the method alone")
OF_TASK: Look = ("#CC79A7", "^", "a quirk of the task alone")

MOST_QUIRKS = 24
"""Quirks in a panel. `report --compare-protocols` has all of them."""


@dataclass(frozen=True)
class Panel:
    """A panel: its title, its rows from above, and what draws one row."""

    title: str
    names: list[str]
    draw: Callable[[Axes], None]
    unit: str
    neutral: float


def protocol_figure(sections: Sequence[Section]) -> Figure:
    """What the protocol changes as a whole, and what each of its quirks changes that was run alone.

    One panel per task that was run in both protocols has one line per method. One panel per task whose quirks were run
    alone has one paired difference per quirk and method. All intervals are Student's 95 %.

    Args:
        sections: as from `reports.comparison.sections`.

    Raises:
        RequestError: no task was run in both protocols, and no quirk was run alone.
    """
    import seaborn
    from matplotlib.figure import Figure

    panels = [*_as_a_whole(sections), *_quirk_panels(sections)]
    if not panels:
        raise RequestError(
            "no task here was run in both protocols; `python -m harness run --protocol paper` with the same --methods, "
            "--tasks and --out adds the other one"
        )
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    most = [max(len(panel.names) for panel in panels[row * across : (row + 1) * across]) for row in range(down)]
    heights = [0.21 * count + 1.2 for count in most]
    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(6.2 * across, sum(heights) + 0.4), layout="constrained", dpi=130)
        grid = list(figure.subplots(down, across, squeeze=False, height_ratios=heights).flat)
    for axes, panel in zip(grid, panels, strict=False):
        panel.draw(axes)
        axes.set_yticks(range(len(panel.names)), panel.names, fontsize=7)
        axes.set_ylim(len(panel.names) - 0.4, -0.6)
        axes.axvline(panel.neutral, color="0.6", lw=0.8, ls=":")
        axes.set_xlabel(panel.unit)
        titled(axes, panel.title, 70)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    legend_below(figure, grid[: len(panels)])
    return figure


def _as_a_whole(sections: Sequence[Section]) -> list[Panel]:
    """A panel per task in both protocols, with the methods that have an AUROC in both, best of `fair` first."""
    panels = []
    for fair, paper in pairs(sections):
        theirs = {row.spec: row for row in paper.rows}
        both = [(row, theirs[row.spec]) for row in fair.rows if row.spec in theirs and row.spec not in CONTROL_STYLES]
        both = [(row, other) for row, other in both if "auroc" in row.summaries and "auroc" in other.summaries]
        if both:
            names = [label(row.title, row.spec) for row, _ in both]
            panels.append(Panel(_title(fair), names, partial(_lines, both), "AUROC", 0.5))
    return panels


def _lines(both: Sequence[tuple[Row, Row]], axes: Axes) -> None:
    for place, pair in enumerate(both):
        axes.plot([row.summaries["auroc"].mean for row in pair], [place, place], color="0.75", lw=2, zorder=1)
        for row, (colour, marker, name) in zip(pair, (FAIR, PAPER), strict=True):
            mean, bar = interval_of(np.array(list(row.values["auroc"].values())))
            look: dict[str, Any] = {"fmt": marker, "color": colour, "label": name if place == 0 else None}
            axes.errorbar(mean, place, xerr=bar, ms=5, elinewidth=1.2, zorder=2, **look)


def _quirk_panels(sections: Sequence[Section]) -> list[Panel]:
    """A panel per task whose quirks, or those of whose methods, were run alone; the largest changes first."""
    panels = []
    for section in (section for section in sections if section.protocol == "fair" and not section.alive):
        found = [(changes(alone.changed), alone.quirk.title, alone, OF_METHOD) for alone in of_methods(section)[0]]
        found += [
            (alone.changed, alone.plain.title, alone, OF_TASK)
            for alone in of_task(section, sections)
            if alone.plain.spec not in CONTROL_STYLES
        ]
        moved = [
            (f"{title}: {changed}", moves, look)
            for changed, title, alone, look in found
            if (moves := change(alone.quirk, alone.plain, "auroc")) is not None
        ]
        moved.sort(key=lambda row: -abs(row[1].mean))
        if moved:
            few = f", the {MOST_QUIRKS} largest changes of {len(moved)}" if len(moved) > MOST_QUIRKS else ""
            title, moved = f"One quirk alone{few}\n{_title(section)}", moved[:MOST_QUIRKS]
            names = [name.replace("$", "\\$") for name, _, _ in moved]
            panels.append(Panel(title, names, partial(_dots, moved), "change in AUROC by the quirk", 0.0))
    return panels


def _dots(moved: Sequence[tuple[str, Difference, Look]], axes: Axes) -> None:
    named: set[str] = set()
    for place, (_, moves, (colour, marker, name)) in enumerate(moved):
        bar = None
        if moves.low is not None and moves.high is not None:
            bar = np.array([[moves.mean - moves.low], [moves.high - moves.mean]])
        look: dict[str, Any] = {"fmt": marker, "color": colour, "label": None if name in named else name}
        axes.errorbar(moves.mean, place, xerr=bar, ms=5, elinewidth=1.2, **look)
        named.add(name)


def _title(section: Section) -> str:
    seeds = f"{len(section.seeds)} seed{'s' * (len(section.seeds) != 1)}"
    return f"{task_label(section.title, section.spec)}\npreset {section.preset}, {seeds}"
