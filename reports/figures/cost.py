"""Quality against cost, with the Pareto front: which methods are worth their seconds."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.errors import RequestError
from harness.results.scored import scoring_params
from harness.selection.names import task_spec
from reports.figures.style import CONTROL_STYLES, grid_of, interval_of, label, legend_below, styles, task_label, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEYS = ["task", "protocol", "preset", "task_params"]
QUALITY = {"auroc": "AUROC", "lds": "LDS"}
"""Metrics that are drawn against cost: of detection, and of attribution."""
LOWEST = {"auroc": 0.0, "lds": -1.0}
"""The lowest value that each metric can have; the highest is 1."""


def cost_figure(frame: pd.DataFrame, stale: Collection[str] = ()) -> Figure:
    """AUROC, or LDS, by total seconds (passes, gradients, cross-validation, retraining and scoring), on one machine.

    Points are means and medians over seeds, bars Student's 95 % intervals. No other method is both better and cheaper
    than a method on the front. For LDS, a line shows the ceiling.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: nothing is stored with an AUROC or LDS and a cost.
    """
    ok = frame[(frame["status"] == "ok") & ~frame["key"].isin(list(stale))]
    ceilings = ok[ok["metric"] == "lds_ceiling"].groupby(KEYS)["value"].mean()
    ok = ok[ok["metric"].isin(list(QUALITY)) & ~ok["method"].isin(list(CONTROL_STYLES)) & (ok["total_seconds"] > 0)]
    panels = [(group, _points(group)) for _, group in ok.groupby([*KEYS, "device_name", "metric"], sort=True)]
    panels = _one_budget([(group, points) for group, points in panels if len(points) > 1])
    if not panels:
        raise RequestError(
            "nothing stored has both AUROC, or LDS, and cost for two methods; `python -m harness run --methods all "
            "--tasks moons` gives both"
        )
    figure, grid = grid_of(len(panels), across=2, width=5.4, height=4.2)
    looks = styles({spec for _, points in panels for spec in points.index})
    for axes, (group, points) in zip(grid, panels, strict=True):
        for spec, point in points.iterrows():
            look = {name: value for name, value in looks[str(spec)].items() if name in ("color", "marker")}
            text = label(str(point["title"]), str(spec))
            axes.errorbar(point["seconds"], point["quality"], yerr=point["bar"], ls="", ms=6, lw=1, label=text, **look)
        _front(axes, points)
        first = group.iloc[0]
        if first["metric"] == "lds" and (ceiling := ceilings.get(tuple(first[KEYS]))) is not None:
            axes.axhline(ceiling, color="0.6", lw=1, ls=":", label="ceiling of LDS")
        seeds = group["seed"].nunique()
        setup = f"protocol {first['protocol']}, preset {first['preset']}, {seeds} seed{'s' * (seeds != 1)}"
        titled(axes, f"{task_label(first['task_title'], _without_budget(first))}\n{setup}, {first['device_name']}", 76)
        axes.set_xscale("log")
        axes.set_xlabel("total seconds")
        axes.set_ylabel(QUALITY[first["metric"]])
    legend_below(figure, grid)
    return figure


def _points(group: pd.DataFrame) -> pd.DataFrame:
    """AUROC or LDS with the bar of its interval, and seconds, one row per method."""
    lowest = LOWEST[group["metric"].iloc[0]]
    rows = {}
    for spec, mine in group.groupby("method_spec"):
        values = mine["value"].to_numpy(dtype=float)
        mean, bar = interval_of(values, lowest)
        seconds = float(mine["total_seconds"].median())
        rows[str(spec)] = {
            "title": mine["method_title"].iloc[0],
            "quality": mean,
            "bar": bar,
            "seconds": seconds,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def pareto(seconds: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Indices of the points that no other point beats in one and equals in the other, cheapest first."""
    order = np.lexsort((-quality, seconds))
    best = np.maximum.accumulate(np.append(-np.inf, quality[order][:-1]))
    return np.asarray(order[quality[order] > best])


def _front(axes: Axes, points: pd.DataFrame) -> None:
    front = points.iloc[pareto(points["seconds"].to_numpy(), points["quality"].to_numpy())]
    axes.step(
        front["seconds"], front["quality"], where="post", color="0.6", lw=1, ls="--", zorder=0, label="Pareto front"
    )


def _one_budget(panels: list[tuple[pd.DataFrame, pd.DataFrame]]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Of a sweep over the budget, the first panel: neither AUROC nor the cost of scores depends on the budget."""
    kept: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
    for group, points in panels:
        first = group.iloc[0]
        params = scoring_params(json.loads(first["task_params"]))
        kept.setdefault(
            json.dumps([*(str(first[key]) for key in KEYS[:3]), str(first["device_name"]), params]), (group, points)
        )
    return list(kept.values())


def _without_budget(cell: pd.Series) -> str:
    kept = scoring_params(json.loads(cell["task_params"]))
    return task_spec(cell["task"], kept, cell["protocol"], cell["preset"]) or str(cell["task"])
