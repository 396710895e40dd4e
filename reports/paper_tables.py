"""The paper's tables, filled from stored results, with the printed numbers beside the measured numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import RequestError, did_you_mean
from harness.interfaces.spec import parse_term
from harness.results.statistics import Summary, summarise
from reports.markdown import ATTRIBUTION
from reports.published import BUDGETS, printed, same_data, setting_of
from reports.table import markdown_table
from reports.table_layouts import TABLES, PaperTable
from reports.words import seconds

FREE = frozenset({"noise", "budget"})
"""Task parameters that headings do not name: ``noise`` makes the columns, ``budget`` is always the paper's."""
HEADINGS = {
    "class_detection_auc": "AUC",
    "class_detection_recall": "recall",
    "class_detection_recall_absolute": "recall by |influence|",
    "accuracy": "accuracy %",
    "detection_accuracy": "detection %",
    "score_seconds": "scoring s",
    "extract_seconds": "extraction s",
    "total_seconds": "total s",
}
RECIPE = ["model", "epochs", "batch_size", "lr", "schedule", "precision", "width", "steps", "size", "weights", "rank"]
"""Task parameters that are listed below a heading."""
DETECTION = {"precision": ("Precision of the flagged %", 100), "auroc": ("AUROC", 1)}


def paper_table(frame: pd.DataFrame, number: str, stale: Collection[str] = ()) -> str:
    """Markdown of one of the paper's tables, once for each protocol, preset and set of task parameters.

    Args:
        frame: as from `harness.load_results`.
        number: the table's number.
        stale: keys of cells that were computed with other code than the current code.

    Raises:
        RequestError: no such table, or nothing stored for it.
    """
    if number not in TABLES:
        known = [*sorted([*TABLES, "6"]), "attribution", "budget", "sweep"]
        raise RequestError(
            f"there is no Table {number} here{did_you_mean(number, known)}; there is: {', '.join(known)}"
        )
    table = TABLES[number]
    cells = _cells(frame, table)
    if cells.empty:
        raise RequestError(f"nothing stored belongs to {table.called}; `python -m harness {table.command}` fills it")
    parts = [f"# {table.called}: {table.title}"]
    for setup, group in cells.groupby("setup", sort=True):
        if table.number != "7" or group["row"].nunique() > 1 or cells["setup"].nunique() == 1:
            parts += _filled(table, str(setup), group)  # a single number of trees (the default) is no sweep
    if set(cells["key"]) & set(stale):
        parts.append("*Some of these results come from other code than the current code; `status` counts them.*")
    parts.append(f"*Printed: {table.called} of Chhabra et al., ICML 2025 ({table.published}).*")
    return "\n\n".join(parts) + "\n"


def _cells(frame: pd.DataFrame, table: PaperTable) -> pd.DataFrame:
    """The rows that belong to a table, with their ``setting``, ``row`` and ``setup``."""
    frame = frame[frame["task"].isin({task for task, _, _ in table.columns}) & (frame["status"] == "ok")].copy()
    params = [json.loads(text) for text in frame["task_params"]]
    frame["setting"] = [
        "" if table.number == "1" else setting_of(task, p) for task, p in zip(frame["task"], params, strict=True)
    ]
    frame["row"] = [
        _row(table, *values) for values in frame[["method", "method_spec", "method_params"]].itertuples(index=False)
    ]
    frame["setup"] = [
        ", ".join([protocol, f"preset {preset}", *_changed(spec), *([device] if table.timed else [])])
        for protocol, preset, spec, device in frame[["protocol", "preset", "task_spec", "device_name"]].itertuples(
            index=False
        )
    ]
    wanted = {(task, setting) for task, setting, _ in table.columns}
    keep = [
        cell in wanted
        and _belongs(table, row)
        and p.get("budget") == BUDGETS[cell[0]]
        and (p.get("model") == table.model if table.model else p.get("model") != "resnet18")
        for cell, row, p in zip(zip(frame["task"], frame["setting"], strict=True), frame["row"], params, strict=True)
    ]
    return frame[pd.Series(keep, frame.index, bool)]


def _belongs(table: PaperTable, row: str) -> bool:
    """Whether a method is shown: the paper's, in a sweep all values, and where a table is open every other method."""
    if table.swept:
        return row.partition("[")[0] == table.methods[0].partition("[")[0] and len(parse_term(row).params) == 1
    return table.open or row in table.methods


def _changed(spec: str) -> list[str]:
    """The parameters that a task's spec names, apart from those that may differ within a table."""
    return [f"{key}={value}" for key, value in parse_term(spec).params.items() if key not in FREE]


def _row(table: PaperTable, method: str, spec: str, params: str) -> str:
    """Which of the table's rows a method is; in Table 7 the default number of trees is one of many."""
    if table.swept and spec == method == table.methods[0].partition("[")[0]:
        return f"outlier_iforest[n_estimators={json.loads(params)['n_estimators']}]"
    return spec


def _filled(table: PaperTable, setup: str, cells: pd.DataFrame) -> list[str]:
    columns = [column for column in table.columns if not _column(cells, *column[:2]).empty]
    told = "class_detection_auc" in table.metrics
    beside = all(map(same_data, cells["task_spec"].unique()))
    header = ["Method", *["Sees class labels"] * told]
    for _, _, heading in columns:
        for metric in table.metrics:
            header.append(f"{heading}, {HEADINGS[metric]}" if len(table.metrics) > 1 else heading)
            header += ["printed"] * (beside and _has_printed(table, metric))
    body = []
    for method in _methods(table, cells):
        mine = cells[cells["row"] == method]
        if mine.empty:
            continue
        own = " ‡" * (method not in table.methods and not table.swept)
        line = [
            _title(mine, method) + own,
            *["yes" if mine["uses"].str.contains("class labels").any() else "no"] * told,
        ]
        for task, setting, _ in columns:
            here, seeds = _column(mine, task, setting), _column(cells, task, setting)["seed"].nunique()
            for metric in table.metrics:
                number = printed(table.number, task, setting, method, metric)
                line.append(_measured(here, metric, seeds))
                line += [str(number) if number else "—"] * (beside and _has_printed(table, metric))
        body.append(line)
    parts = [f"## Protocol {setup}", *_facts(cells), markdown_table(header, body)]
    if not beside:
        parts.append("The data are not the paper's, so no printed numbers stand beside these.")
    if any(line[0].endswith("‡") for line in body):
        parts.append("‡ Not a row of the paper's table.")
    if "accuracy" in table.metrics and table.number != "1":
        parts += ["Detection metrics, not printed in the paper:", _detection(table, columns, cells)]
    return parts


def _methods(table: PaperTable, cells: pd.DataFrame) -> list[str]:
    """The table's rows: the paper's in its order, then others by name. A sweep's rows are sorted by its value."""
    others = sorted(set(cells["row"]) - set(table.methods))
    rows = [*table.methods, *others]
    return sorted(rows, key=_value) if table.swept else rows


def _value(spec: str) -> float:
    return float(next(iter(parse_term(spec).params.values()), 0))


def _has_printed(table: PaperTable, metric: str) -> bool:
    """Whether the paper prints this metric. The paper does not print total seconds, nor numbers of figures."""
    return not table.is_figure and metric not in ("extract_seconds", "total_seconds")


def _detection(table: PaperTable, columns: Sequence[tuple[str, str, str]], cells: pd.DataFrame) -> str:
    header, body = ["Method"], []
    for _, _, heading in columns:
        header += [f"{heading}: {what}" for what, _ in DETECTION.values()]
    for method in _methods(table, cells):
        mine = cells[(cells["row"] == method) & cells["metric"].isin(DETECTION)]
        if mine.empty:
            continue
        line = [_title(mine, method)]
        for task, setting, _ in columns:
            here = _column(mine, task, setting)
            for metric, (_, factor) in DETECTION.items():
                seeds = _column(cells, task, setting)["seed"].nunique()
                line.append(_shown(_summary(here, metric), factor, 1 if factor == 100 else 3, seeds))
        body.append(line)
    return markdown_table(header, body)


def _column(cells: pd.DataFrame, task: str, setting: str) -> pd.DataFrame:
    return cells[(cells["task"] == task) & (cells["setting"] == setting)]


def _title(cells: pd.DataFrame, method: str) -> str:
    changed = f" `{method[method.index('[') :]}`" if "[" in method else ""
    return f"{cells.iloc[0]['method_title']}{changed}"


def _summary(cells: pd.DataFrame, metric: str) -> Summary | None:
    """Mean and deviation over seeds; None without a finite value."""
    values = cells[cells["metric"] == metric].drop_duplicates("slot")["value"].to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    return summarise(known) if len(known) else None


def _measured(cells: pd.DataFrame, metric: str, seeds: int) -> str:
    if metric in ATTRIBUTION:
        mean, within = _summary(cells, metric), _summary(cells, f"{metric}_std")
        if mean and within:
            mean = replace(mean, std=within.mean)  # over test samples, as printed
        return _shown(mean, 1, 3, seeds)
    if metric in ("score_seconds", "extract_seconds", "total_seconds"):
        taken = pd.to_numeric(cells.drop_duplicates("slot")[metric], errors="coerce").dropna()
        return seconds(None if taken.empty else float(taken.median()))
    return _shown(_summary(cells, metric), 100, 2, seeds)


def _shown(summary: Summary | None, factor: int, digits: int, seeds: int) -> str:
    """Mean and deviation; if seeds of the column are missing, also the number of seeds."""
    if summary is None:
        return "—"
    spread = "" if summary.std is None else f" ± {factor * summary.std:.{digits}f}"
    text = f"{factor * summary.mean:.{digits}f}{spread}"
    return text if summary.count == seeds else f"{text} ({summary.count}/{seeds} seeds)"


def _facts(cells: pd.DataFrame) -> list[str]:
    """The setup of the numbers, one sentence per task."""
    told = []
    for title, mine in cells.groupby("task_title"):
        params: Mapping[str, Any] = json.loads(mine.iloc[0]["task_params"])
        recipe = [f"{name} {params[name]}" for name in RECIPE if params.get(name) is not None]
        sizes = " or ".join(str(n) for n in sorted({int(n) for n in mine["n_train"].dropna()}))
        seeds = ", ".join(map(str, sorted(set(mine["seed"]))))
        devices = ", ".join(sorted(set(mine["device_name"])))
        told.append(f"Here, {title}: {', '.join(recipe)}; {sizes} training samples; seeds {seeds}; {devices}.")
    return told
