"""Figure 3 from stored results: test accuracy after every epoch of the retraining, one line per method."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import RequestError
from harness.interfaces.spec import changes
from reports.figures.style import columns_of
from reports.published import GLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = "accuracy_by_epoch"
DASHES: tuple[Any, ...] = ("", (4, 1.5), (1, 1))
"""Line styles, because colours alone distinguish only few methods."""


def curve_figure(frame: pd.DataFrame, stale: Collection[str] = ()) -> Figure:
    """Accuracy by epoch: one panel per task with its parameters, protocol and preset, one line per method.

    Lines are means over seeds, bands their standard deviation. The model trained on all samples is black.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: nothing is stored with one value per epoch.
    """
    import seaborn
    from matplotlib.figure import Figure

    here = frame[(frame["metric"] == METRIC) & (frame["status"] == "ok") & ~frame["key"].isin(list(stale))]
    if here.empty:
        raise RequestError("nothing stored belongs to Figure 3; `python -m harness run --tasks 'glue_*'` fills it")
    here = here.assign(percent=100 * here["value"].astype(float), step=here["step"].astype(int))
    here = here.assign(line=[_line(*names) for names in here[["method_title", "method_spec"]].itertuples(index=False)])
    panels = [
        panel
        for _, task in sorted(here.groupby("task"), key=lambda group: _place(str(group[0])))
        for _, panel in task.groupby(["protocol", "preset", "task_params"])
    ]
    untrimmed = here.groupby("line")["n_flagged"].max() == 0
    whole = sorted(untrimmed[untrimmed].index)
    lines = [*whole, *sorted(untrimmed[~untrimmed].index)]
    colours = ["black"] * len(whole) + list(seaborn.color_palette("husl", len(lines) - len(whole)))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(5.2 * across, 3.7 * down + 0.9), layout="constrained", dpi=130)
        grid = figure.subplots(down, across, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        seaborn.lineplot(
            panel,
            x="step",
            y="percent",
            hue="line",
            style="line",
            hue_order=lines,
            style_order=lines,
            palette=dict(zip(lines, colours, strict=True)),
            dashes={line: DASHES[i % len(DASHES)] for i, line in enumerate(lines)},
            errorbar="sd",
            err_kws={"alpha": 0.06, "linewidth": 0},
            linewidth=1.6,
            ax=axes,
        )
        _titled(axes, panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns_of(figure, labels), fontsize=8, frameon=False
    )
    for axes in grid.flat[: len(panels)]:
        axes.get_legend().remove()
    return figure


def _line(title: str, spec: str) -> str:
    return f"{title} {changes(spec)}".strip()


def _place(task: str) -> tuple[int, str]:
    """Sort key: GLUE's tasks in the figure's order, then the other tasks by name."""
    order = list(GLUE)
    return (order.index(task) if task in order else len(order), task)


def _titled(axes: Axes, panel: pd.DataFrame) -> None:
    from matplotlib.ticker import MaxNLocator

    first, seeds = panel.iloc[0], panel["seed"].nunique()
    params = json.loads(first["task_params"])
    facts = [f"protocol {first['protocol']}", f"{seeds} seed{'s' if seeds > 1 else ''}"]
    facts.append(f"{int(first['n_train'])} training samples")
    if "model" in params:
        facts.insert(0, str(params["model"]).rstrip("/").rpartition("/")[2])
    axes.set_title(f"{first['task_title']}\n{', '.join(facts)}", fontsize=9)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
