"""The paper's figures from stored results: flagged images (2) and accuracy by trimming budget (5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.errors import RequestError
from harness.results.pictures import Flagged
from harness.results.statistics import paired_difference
from reports.published import BUDGETS, printed, setting_of, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRONG, RIGHT = "#c0392b", "#1e8449"
PUBLISHED_BUDGET = 0.05
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


def budget_figure(frame: pd.DataFrame, stale: Collection[str] = ()) -> Figure:
    """Gain in test accuracy by trimming budget: one panel per task, protocol and setup, one line per method.

    Lines are means over seeds, bands Student's 95 % intervals; hollow marks are printed gains at 5 %.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: no task was run with several budgets.
    """
    import seaborn
    from matplotlib.figure import Figure

    panels = _panels(frame[~frame["key"].isin(list(stale))])
    if not panels:
        raise RequestError(
            "nothing stored belongs to Figure 5; `python -m harness run --methods none,outlier_iforest,random --tasks "
            "'cifar10n[noise=aggregate|random|worst,budget=0|0.025|0.05|0.075|0.1|0.125]'` fills it"
        )
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(4.4 * across, 3.6 * down + 0.5), layout="constrained", dpi=130)
        grid = figure.subplots(down, across, squeeze=False)
    looks = styles({label for _, values in panels for label in values["method_spec"]})
    for axes, (title, values) in zip(grid.flat, panels, strict=False):
        for spec, mine in values.groupby("method_spec"):
            _curve(axes, mine, str(spec), looks[str(spec)])
        for spec, mine in values.groupby("method_spec"):
            number = _printed_gain(mine, str(spec))
            if number is not None:
                colour = looks[str(spec)]["color"]
                axes.plot(100 * PUBLISHED_BUDGET, number, "D", mfc="none", mec=colour, ms=8, label="printed")
        axes.axhline(0, color="0.3", linewidth=1)
        axes.set_title("\n".join(part for line in title.split("\n") for part in wrap(line, 52)), fontsize=9)
        axes.set_xlabel("removed, % of the training samples")
        axes.set_ylabel("gain in test accuracy, points")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    shown = {name: handle for axes in grid.flat for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=columns_of(figure, shown),
        fontsize=8,
        frameon=False,
    )
    return figure


def _curve(axes: Axes, values: pd.DataFrame, spec: str, look: Mapping[str, Any]) -> None:
    """One method's mean gains, with Student's 95 % intervals where there are two seeds or more."""
    budgets = sorted(values["budget"].unique())
    gains = [values.loc[values["budget"] == budget, "gain"].to_numpy(dtype=float) for budget in budgets]
    means = np.array([gain.mean() for gain in gains])
    intervals = [paired_difference(gain, np.zeros(len(gain))) for gain in gains]
    axes.plot(budgets, means, label=spec, **look)
    if all(interval.low is not None for interval in intervals):
        lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]
        axes.fill_between(budgets, np.array(lows, float), np.array(highs, float), color=look["color"], alpha=0.12, lw=0)


def columns_of(figure: Figure, labels: Collection[str]) -> int:
    """Columns of a legend that fit the figure's width; a label of 8 points is about 0.07 inches per sign wide."""
    widest = 0.6 + 0.07 * max(map(len, labels), default=1)
    return max(1, min(len(labels), int(figure.get_figwidth() / widest)))


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#6B6B00")
"""Colours that readers with any kind of colour vision tell apart (Okabe & Ito, 2008, and two darker ones)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

CONTROLS: dict[str, dict[str, Any]] = {
    "oracle": {"color": "black", "linestyle": "--", "marker": ""},
    "random": {"color": "0.45", "linestyle": ":", "marker": ""},
    "none": {"color": "0.7", "linestyle": "-", "marker": ""},
}
"""Controls are lines without markers."""


SHOWN_MOST = (
    *("self_confidence", "exact_hessian", "outlier_l2", "datainf", "ekfac_influence", "clean_probe", "aum", "lissa"),
    *("normalized_margin", "self_influence", "outlier_iforest", "gradient_tracing", "trak", "knn_labels", "data_oob"),
    *("confident_learning", "confidence_weighted_entropy", "self_datainf", "outlier_l1", "self_lissa", "knn_shapley"),
)
LATER = len(SHOWN_MOST)


def styles(specs: Collection[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each method. A method has the same ones in every figure.

    The methods that figures show most have looks of their own, the first eight of them different colours. The looks of
    others come from a hash of the method's spec. Where two looks of one figure are the same, one gets another marker.
    """
    looks: dict[str, dict[str, Any]] = {}
    taken: set[tuple[int, int]] = set()
    for spec in sorted(specs, key=lambda name: (SHOWN_MOST.index(name) if name in SHOWN_MOST else LATER, name)):
        if spec in CONTROLS:
            looks[spec] = {**CONTROLS[spec], "linewidth": 1.6}
            continue
        if spec in SHOWN_MOST:
            number = SHOWN_MOST.index(spec)
        else:
            number = int.from_bytes(hashlib.blake2b(spec.encode(), digest_size=4).digest(), "big")
        colour, marker = number % len(COLOURS), (number + number // len(COLOURS)) % len(MARKERS)
        for step in range(len(COLOURS) * len(MARKERS)):
            marker, colour = (marker + (step > 0)) % len(MARKERS), (colour + (step % len(MARKERS) == 6)) % len(COLOURS)
            if (colour, marker) not in taken:
                break
        taken.add((colour, marker))
        looks[spec] = {"color": COLOURS[colour], "marker": MARKERS[marker], "markersize": 5, "linewidth": 1.4}
    return looks


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
