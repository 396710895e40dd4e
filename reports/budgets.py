"""One table over the budget: the gain of every method at every budget, against no trimming and against random."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.errors import RequestError
from harness.results.statistics import holm, paired_difference, paired_p_values, summarise
from harness.selection.names import task_spec
from reports.words import percent, plus

if TYPE_CHECKING:
    from harness.results.statistics import Difference

CONTROL = "random"
LEVEL = 0.05


def budget_tables(frame: pd.DataFrame, stale: Collection[str] = ()) -> str:
    """Markdown with one table for each task, protocol, preset and set of parameters that was run at several budgets.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: no task was run with several budgets and retraining.
    """
    cells = _cells(frame[~frame["key"].isin(list(stale))])
    parts = []
    for key, group in cells.groupby(["task", "protocol", "preset", "rest"], sort=True):
        task, protocol, preset, rest = map(str, key)
        if group["budget"].nunique() > 1:
            spec = task_spec(task, json.loads(rest), protocol, preset) or task
            parts.append(_table(group, f"## `{spec}`, protocol {protocol}, preset {preset}"))
    if not parts:
        raise RequestError(
            "no task here was run with several budgets; `python -m harness run --methods all,oracle --tasks "
            "'digits[budget=0.05|0.1|0.2]'` gives such results"
        )
    return "\n\n".join(["# Gain by budget", *parts]) + "\n"


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell that removed or relabelled samples: its setting without the budget, its gain and AUROC."""
    ok = frame[(frame["status"] == "ok") & (frame["n_flagged"] > 0)]
    names = ["task", "protocol", "preset", "task_params", "method_spec", "method_title", "seed"]
    metrics = ok[ok["metric"].isin(["accuracy_gain", "accuracy_base", "auroc"]) & ok["step"].isna()]
    wide = metrics.pivot_table(index=names, columns="metric", values="value").reset_index()
    for metric in ("accuracy_gain", "accuracy_base", "auroc"):
        if metric not in wide:
            wide[metric] = np.nan
    params = wide["task_params"].map(json.loads)
    wide["budget"] = [float(values.get("budget", np.nan)) for values in params]
    rests = [{name: value for name, value in values.items() if name != "budget"} for values in params]
    wide["rest"] = [json.dumps(rest, sort_keys=True) for rest in rests]
    return wide.dropna(subset=["accuracy_gain"])


def _table(cells: pd.DataFrame, heading: str) -> str:
    from reports.table import markdown_table

    budgets = sorted(cells["budget"].unique())
    control = cells[cells["method_spec"] == CONTROL]
    differs = {budget: _differing(cells[cells["budget"] == budget], control) for budget in budgets}
    means = cells.groupby("method_spec")["accuracy_gain"].mean().sort_values(ascending=False)
    body, count = [], cells["seed"].nunique()
    for spec in means.index:
        own = cells[cells["method_spec"] == spec]
        fewer = own["seed"].nunique()
        of_seeds = f" ({fewer} seed{'s' * (fewer != 1)})" if fewer < count else ""
        line = [f"`{spec}`{of_seeds}", _auroc(own)]
        line += [
            _gain(own[own["budget"] == budget]["accuracy_gain"].to_numpy(), spec in differs[budget])
            for budget in budgets
        ]
        body.append(line)
    header = ["Method", "AUROC", *(f"{100 * budget:g} %" for budget in budgets)]
    base = cells.drop_duplicates("seed")["accuracy_base"].to_numpy(dtype=float)
    seeds = sorted(int(seed) for seed in cells["seed"].unique())
    several = len(seeds) > 1
    caption = f"Gain in test accuracy over the untrimmed model ({percent(summarise(base))} %), in points"
    spread = f", with the half-width of Student's paired 95 % interval over {len(seeds)} seeds"
    caption += f"{spread if several else ', of one seed'}. Best mean gain first."
    if len(control) and several:
        caption += (
            f" A star marks a gain that differs from that of `{CONTROL}` at the same budget (paired t-test over seeds, "
            f"5 %, Holm's correction over the methods)."
        )
    return "\n\n".join([heading, markdown_table(header, body), caption])


def _differing(cells: pd.DataFrame, control: pd.DataFrame) -> set[str]:
    """The methods whose gain differs from the control's at one budget, after Holm's correction."""
    base = control[control["budget"].isin(cells["budget"])].set_index("seed")["accuracy_gain"]
    p_values = {}
    for spec, own in cells[cells["method_spec"] != CONTROL].groupby("method_spec"):
        both = pd.concat([own.set_index("seed")["accuracy_gain"], base], axis=1, join="inner").to_numpy(dtype=float)
        if len(both) > 1:
            p_values[str(spec)] = float(paired_p_values(both[:, 0], both[:, 1]))
    adjusted = holm(np.array(list(p_values.values())))
    return {spec for spec, p in zip(p_values, adjusted, strict=True) if p < LEVEL}


def _gain(values: np.ndarray, differs: bool) -> str:
    if not len(values):
        return "—"
    gain: Difference = paired_difference(values, np.zeros(len(values)))
    half = "" if gain.high is None else f" ± {100 * (gain.high - gain.mean):.2f}"
    return f"{plus(100 * gain.mean, 2)}{half}{'*' if differs else ''}"


def _auroc(cells: pd.DataFrame) -> str:
    known = cells.drop_duplicates("seed")["auroc"].dropna()
    return f"{known.mean():.3f}" if len(known) else "—"
