"""Table 6: the printed complexities beside measured exponents of the seconds in the number of samples."""

from __future__ import annotations

import json
from collections.abc import Collection

import numpy as np
import pandas as pd

from harness.errors import RequestError
from harness.interfaces.spec import changes
from harness.results.statistics import Difference, paired_difference
from reports.published import COMPLEXITY
from reports.table import markdown_table

SIZE = "n_train"
FEWEST_SIZES = 3
LEAST_SECONDS = 1e-3
"""Seconds below this are left out: there the clock and Python's overhead hide the growth."""
COMMAND = (
    "python -m harness run --preset probe --methods all --tasks "
    "'cifar10n[retrain=no,n_train=2000|5000|10000|20000|50000]'"
)


def growth_table(frame: pd.DataFrame, stale: Collection[str] = ()) -> str:
    """Markdown: one table per task that was run with at least three numbers of training samples on one machine.

    The exponent is the slope of log(seconds) over log(n), by least squares, for each seed; its interval is Student's
    95 % over seeds.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code; these cells are left out.

    Raises:
        RequestError: no task was run with three sizes.
    """
    cells = frame[(frame["status"] == "ok") & ~frame["key"].isin(list(stale))].drop_duplicates("key").copy()
    params = [json.loads(text) for text in cells["task_params"]]
    cells["rest"] = [
        json.dumps({k: v for k, v in values.items() if k not in (SIZE, "retrain", "budget")}, sort_keys=True)
        for values in params
    ]
    parts = []
    for key, group in cells.groupby(["task", "protocol", "preset", "rest", "device_name"], sort=True):
        if group["n_train"].nunique() >= FEWEST_SIZES:
            parts.append(_table(group, str(key[1]), str(key[2]), str(key[4])))
    if not parts:
        raise RequestError(
            f"Table 6 needs a task that was run with {FEWEST_SIZES} numbers of training samples; `{COMMAND}` gives five"
        )
    note = (
        "*Printed: Table 6 of Chhabra et al., ICML 2025; n training samples, v validation samples, p parameters. All "
        "printed complexities are linear in n. Below 1 on a log-log plot, fixed costs still count.*"
    )
    return "\n\n".join(["# Table 6: Complexity, printed and measured", *parts, note]) + "\n"


def _table(cells: pd.DataFrame, protocol: str, preset: str, device: str) -> str:
    sizes = sorted({int(n) for n in cells["n_train"]})
    body = []
    for spec, mine in cells.groupby("method_spec"):
        kind, printed = COMPLEXITY.get(str(spec).partition("[")[0], ("—", "—"))
        scoring, total = (_exponent(mine, column) for column in ("score_seconds", "total_seconds"))
        largest = mine[mine["n_train"] == sizes[-1]]["total_seconds"].median()
        name = f"{mine['method_title'].iloc[0]}{f' `{changes(str(spec))}`' if changes(str(spec)) else ''}"
        body.append(
            [name, kind, printed, _shown(scoring), _shown(total), "—" if np.isnan(largest) else f"{largest:.3g}"]
        )
    order = sorted(range(len(body)), key=lambda i: (body[i][2] == "—", body[i][0]))
    header = ["Method", "Kind", "Printed complexity", "Exponent of n, scoring", "Exponent of n, total"]
    header.append(f"Total s at n = {sizes[-1]:,}")
    heading = f"## {cells['task_title'].iloc[0]}, protocol {protocol}, preset {preset}, {device}"
    seeds = cells["seed"].nunique()
    told = f"n = {', '.join(f'{n:,}' for n in sizes)}; {seeds} seed{'s' * (seeds != 1)}. "
    told += f"A dash: fewer than {FEWEST_SIZES} sizes took {1000 * LEAST_SECONDS:g} ms."
    return "\n\n".join([heading, markdown_table(header, [body[i] for i in order]), told])


def _exponent(cells: pd.DataFrame, column: str) -> Difference | None:
    """The slopes of the seeds that have enough sizes; None without such a seed."""
    slopes = []
    for _, mine in cells.groupby("seed"):
        known = mine[mine[column] >= LEAST_SECONDS]
        if known["n_train"].nunique() >= FEWEST_SIZES:
            logs = np.log(known[["n_train", column]].to_numpy(dtype=float))
            slopes.append(float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]))
    return paired_difference(np.array(slopes), np.zeros(len(slopes))) if slopes else None


def _shown(exponent: Difference | None) -> str:
    if exponent is None:
        return "—"
    half = "" if exponent.high is None else f" ± {exponent.high - exponent.mean:.2f}"
    return f"{exponent.mean:.2f}{half}"
