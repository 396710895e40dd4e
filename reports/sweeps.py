"""A sweep in one table: the values of one parameter of a task or of a method, and what changes with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.errors import RequestError
from harness.interfaces.spec import parse_term, written
from reports.comparison import Row, Section, sections
from reports.table import markdown_table, points
from reports.words import fraction, seconds

MEASURES = {"auroc": "AUROC", "accuracy_gain": "gain, points"}


def sweep_tables(frame: pd.DataFrame, stale: Collection[str] = ()) -> str:
    """Markdown: one table for each parameter that has at least two values while all others are equal.

    Sweeps over a task's parameter have one row per method and one column per value. Sweeps over a method's parameter
    have one row per value. Sweeps over the budget have a table of their own, ``budget``.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code.

    Raises:
        RequestError: there is no sweep.
    """
    shown = [section for section in sections(frame, stale) if not section.alive]
    parts = [_of_task(sweep) for sweep in task_sweeps(shown)]
    parts += [text for section in shown for text in _of_methods(section)]
    if not parts:
        raise RequestError(
            "there is no sweep here; `python -m harness run --methods 'lissa[damping=0.01|0.1]' --tasks "
            "'moons[spread=0.1|0.2|0.3]'` gives two"
        )
    return "\n\n".join(["# Sweeps", *parts]) + "\n"


@dataclass(frozen=True)
class Sweep:
    """Sections that differ in one parameter of the task alone, by the parameter's value."""

    name: str
    members: Sequence[tuple[Any, Section]]


def task_sweeps(shown: Sequence[Section]) -> list[Sweep]:
    """All sweeps over a parameter of a task other than the budget."""
    found: dict[tuple[str, ...], dict[str, tuple[Any, Section]]] = {}
    for section in shown:
        params: Mapping[str, Any] = json.loads(section.params)
        for name, value in params.items():
            if name in ("budget", "retrain"):
                continue
            rest = json.dumps({key: other for key, other in params.items() if key != name}, sort_keys=True)
            of_name = found.setdefault((section.task, section.protocol, section.preset, name, rest), {})
            of_name[json.dumps(value)] = (value, section)
    return [
        Sweep(key[3], sorted(members.values(), key=lambda member: _order(member[0])))
        for key, members in found.items()
        if len(members) > 1
    ]


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, float(value) if number else 0.0, str(value)


def _of_task(sweep: Sweep) -> str:
    first = sweep.members[0][1]
    rows = {row.spec: row for _, section in sweep.members for row in section.rows if row.values}
    measures = [metric for metric in MEASURES if any(metric in row.values for row in rows.values())]
    parts = [f"## {first.title}: `{sweep.name}`, protocol {first.protocol}, preset {first.preset}"]
    for metric in measures:
        header = ["Method", *(f"{sweep.name}={written(value)}" for value, _ in sweep.members)]
        body = []
        for spec in _best_first([section for _, section in sweep.members], metric):
            cells = [_cell(_row(section, spec), metric) for _, section in sweep.members]
            body.append([f"`{spec}`", *cells])
        parts += [f"{MEASURES[metric][0].upper()}{MEASURES[metric][1:]}:", markdown_table(header, body)]
    return "\n\n".join(parts)


def _best_first(members: Sequence[Section], metric: str) -> list[str]:
    values: dict[str, list[float]] = {}
    for section in members:
        for row in section.rows:
            if metric in row.summaries:
                values.setdefault(row.spec, []).append(row.summaries[metric].mean)
    return sorted(values, key=lambda spec: (-sum(values[spec]) / len(values[spec]), spec))


def _row(section: Section, spec: str) -> Row | None:
    return next((row for row in section.rows if row.spec == spec), None)


def _cell(row: Row | None, metric: str) -> str:
    if row is None or metric not in row.summaries:
        return "—"
    return points(row.gain) if metric == "accuracy_gain" else fraction(row.summaries[metric])


def _of_methods(section: Section) -> list[str]:
    """One table for each parameter of a method that this section has at several values."""
    found: dict[tuple[str, str, str], dict[Any, Row]] = {}
    for row in section.rows:
        term = parse_term(row.spec)
        for name, value in term.params.items():
            rest = json.dumps({key: str(other) for key, other in term.params.items() if key != name}, sort_keys=True)
            found.setdefault((str(term.pattern), name, rest), {})[value] = row
    parts = []
    for (method, name, _), rows in found.items():
        if len(rows) < 2:
            continue
        body = []
        for value in sorted(rows, key=lambda value: _order(_number(value))):
            row = rows[value]
            cells = [_cell(row, metric) for metric in MEASURES]
            body.append([f"{name}={value}", *cells, seconds(row.score_seconds)])
        heading = f"## `{method}`: `{name}` on `{section.spec}`, protocol {section.protocol}, preset {section.preset}"
        header = ["Changed parameter", "AUROC", "Gain, points", "Scoring s"]
        parts.append("\n\n".join([heading, markdown_table(header, body)]))
    return parts


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
