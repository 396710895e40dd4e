"""Figure 5: gain in test accuracy by trimming budget."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.errors import RequestError
from harness.results.statistics import paired_difference
from reports.figures.style import best_and_controls, grid_of, label, legend_below, styles, titled
from reports.published import printed, setting_of, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED_BUDGET = 0.05


def budget_figure(frame: pd.DataFrame, stale: Collection[str] = ()) -> Figure:
    """Gain in test accuracy by trimming budget: one panel per task, protocol and setup, one line per method.

    Lines are means over seeds, bands Student's 95 % intervals; hollow marks are printed gains at 5 %.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: no task was run with several budgets.
    """
    found = _panels(frame[~frame["key"].isin(list(stale))])
    if not found:
        raise RequestError(
            "nothing stored belongs to Figure 5; `python -m harness run --methods none,outlier_iforest,random --tasks "
            "'cifar10n[noise=aggregate|random|worst,budget=0|0.025|0.05|0.075|0.1|0.125]'` fills it"
        )
    figure, grid = grid_of(len(found))
    looks = styles({spec for _, values in found for spec in values["method_spec"]})
    for axes, (title, values) in zip(grid, found, strict=True):
        for spec, mine in values.groupby("method_spec"):
            _curve(axes, mine, str(spec), looks[str(spec)])
        for spec, mine in values.groupby("method_spec"):
            number = _printed_gain(mine, str(spec))
            if number is not None:
                colour = looks[str(spec)]["color"]
                axes.plot(100 * PUBLISHED_BUDGET, number, "D", mfc="none", mec=colour, ms=8, label="printed")
        axes.axhline(0, color="0.3", linewidth=1)
        titled(axes, title)
        axes.set_xlabel("removed, % of the training samples")
        axes.set_ylabel("gain in test accuracy, points")
    legend_below(figure, grid)
    return figure


def _curve(axes: Axes, values: pd.DataFrame, spec: str, look: Mapping[str, Any]) -> None:
    """One method's mean gains, with Student's 95 % intervals where there are two seeds or more."""
    budgets = sorted(values["budget"].unique())
    gains = [values.loc[values["budget"] == budget, "gain"].to_numpy(dtype=float) for budget in budgets]
    means = np.array([gain.mean() for gain in gains])
    intervals = [paired_difference(gain, np.zeros(len(gain))) for gain in gains]
    axes.plot(budgets, means, label=label(str(values["method_title"].iloc[0]), spec), **look)
    if all(interval.low is not None for interval in intervals):
        lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]
        axes.fill_between(budgets, np.array(lows, float), np.array(highs, float), color=look["color"], alpha=0.12, lw=0)


def _panels(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and (method_spec, seed, budget, gain) of everything that was run with several budgets."""
    here = frame[(frame["status"] == "ok") & frame["metric"].isin(["accuracy_gain", "accuracy_base"])].copy()
    params = here["task_params"].map(json.loads)
    here["budget"] = [100 * float(p.get("budget", np.nan)) for p in params]
    here["setting"] = [setting_of(task, p) for task, p in zip(here["task"], params, strict=True)]
    here["others"] = [json.dumps({k: v for k, v in p.items() if k != "budget"}, sort_keys=True) for p in params]
    panels = []
    for (_, protocol, preset, _), group in here.groupby(["task", "protocol", "preset", "others"]):
        if group["budget"].nunique() < 2:
            continue
        gains = group[group["metric"] == "accuracy_gain"].drop_duplicates(["method_spec", "seed", "budget"])
        gains = _swept(gains)
        untrimmed = group[(group["metric"] == "accuracy_base") & group["seed"].isin(gains["seed"])]
        base, seeds = untrimmed.drop_duplicates("seed")["value"], gains["seed"].nunique()
        setting = group["setting"].iloc[0]
        title = (
            f"{group.iloc[0]['task_title']} {setting}, protocol {protocol}, preset {preset}\n"
            f"untrimmed {100 * base.mean():.1f} %, {seeds} seed{'s' if seeds > 1 else ''}"
        )
        shown = best_and_controls({str(spec): values.mean() for spec, values in gains.groupby("method_spec")["value"]})
        if gains["method_spec"].nunique() > len(shown):
            title += f", {len(shown)} of {gains['method_spec'].nunique()} methods"
            gains = gains[gains["method_spec"].isin(shown)]
        if len(gains):
            panels.append((title, gains.assign(gain=100 * gains["value"])))
    return panels


def _swept(gains: pd.DataFrame) -> pd.DataFrame:
    """Gains of methods that trim and were run with several budgets, on the seeds that have all of these budgets."""
    parts = []
    for _, mine in gains.groupby("method_spec"):
        budgets = mine["budget"].nunique()
        complete = mine.groupby("seed")["budget"].transform("nunique") == budgets
        if budgets > 1 and complete.any() and (mine["n_flagged"] > 0).any():
            parts.append(mine[complete])
    return pd.concat(parts) if parts else gains.iloc[:0]


def _printed_gain(values: pd.DataFrame, spec: str) -> float | None:
    """The printed gain at the published budget, in points."""
    task, setting = values.iloc[0]["task"], values.iloc[0]["setting"]
    table = table_of(task, json.loads(values.iloc[0]["task_params"]))
    after, before = (printed(table, task, setting, name, "accuracy") for name in (spec, "none"))
    return after.value - before.value if after and before else None
