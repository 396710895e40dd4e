"""Figure 3 from stored results: test accuracy after every epoch of the retraining, one line per method."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

import pandas as pd

from harness.errors import RequestError
from reports.figures.style import grid_of, label, legend_below, styles, titled
from reports.published import GLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = "accuracy_by_epoch"


def curve_figure(frame: pd.DataFrame, stale: Collection[str] = ()) -> Figure:
    """Accuracy by epoch: one panel per task with its parameters, protocol and preset, one line per method.

    Lines are means over seeds, bands their standard deviation. The grey line is the model trained on all samples.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: nothing is stored with one value per epoch.
    """
    here = frame[(frame["metric"] == METRIC) & (frame["status"] == "ok") & ~frame["key"].isin(list(stale))]
    if here.empty:
        raise RequestError("nothing stored belongs to Figure 3; `python -m harness run --tasks 'glue_*'` fills it")
    here = here.assign(percent=100 * here["value"].astype(float), step=here["step"].astype(int))
    panels = [
        panel
        for _, task in sorted(here.groupby("task"), key=lambda group: _place(str(group[0])))
        for _, panel in task.groupby(["protocol", "preset", "task_params"])
    ]
    figure, grid = grid_of(len(panels), across=2, width=5.2, height=3.7)
    looks = styles(set(here["method_spec"]))
    for axes, panel in zip(grid, panels, strict=True):
        for spec, mine in panel.groupby("method_spec"):
            by_step = mine.groupby("step")["percent"]
            means, spreads = by_step.mean(), by_step.std(ddof=1)
            look = looks[str(spec)]
            axes.plot(means.index, means, label=label(str(mine["method_title"].iloc[0]), str(spec)), **look)
            if not spreads.isna().any():
                bounds = means - spreads, means + spreads
                axes.fill_between(means.index, *bounds, color=look["color"], alpha=0.06, lw=0)
        _titled(axes, panel)
    legend_below(figure, grid)
    return figure


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
    titled(axes, f"{first['task_title']}\n{', '.join(facts)}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
