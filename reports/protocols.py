"""What the protocol changes, with intervals: of each method as a whole, and by each of its quirks alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.params import build, fields_of, layered
from harness.interfaces.spec import changes, format_term, parse_term
from harness.results.statistics import Difference, paired_difference
from harness.selection.registry import METHODS, TASKS
from reports.comparison import Row, Section
from reports.table import difference_of, markdown_table, points, row_name
from reports.words import fraction, percent

Pair = tuple[Section, Section]
"""A task in the protocol `fair` and in the protocol `paper`, with one preset."""


def protocols_compared(shown: Sequence[Section]) -> list[str]:
    """For each task that was run in both protocols: how much the protocol alone changes each method's metrics."""
    return [text for pair in pairs(shown) if (text := _as_a_whole(*pair))]


def protocol_report(shown: Sequence[Section], out: str) -> str:
    """The whole comparison of the protocols, with the worth of each quirk that was run alone.

    Args:
        shown: as from `reports.comparison.sections`.
        out: the results folder, for the commands that run what is missing.

    Raises:
        RequestError: no task was run in both protocols, and no quirk was run alone.
    """
    parts = protocols_compared(shown)
    missing, in_both = [], [fair for fair, _ in pairs(shown)]
    for section in (section for section in shown if section.protocol == "fair" and not section.alive):
        tables, left = _by_quirk(section, shown)
        parts += tables
        missing += left if section in in_both else []
    if not parts:
        raise RequestError(
            "no task here was run in both protocols; `python -m harness run --protocol paper` with the same --methods, "
            "--tasks and --out adds the other one"
        )
    if missing:
        parts.append(
            "Not run here:\n\n```\n"
            + "\n".join(f"{command} --out {out}" for command in dict.fromkeys(missing))
            + "\n```"
        )
    return "\n\n".join(["# What the protocol changes", *parts]) + "\n"


def pairs(shown: Sequence[Section]) -> list[Pair]:
    """The tasks that were run in both protocols."""
    by_task: dict[tuple[str, str], dict[str, Section]] = {}
    for section in shown:
        if not section.alive:
            by_task.setdefault((section.spec, section.preset), {})[section.protocol] = section
    return [(both["fair"], both["paper"]) for both in by_task.values() if {"fair", "paper"} <= set(both)]


def change(ours: Row, theirs: Row, metric: str) -> Difference | None:
    """The paired difference ours − theirs over the seeds that both have; None without such a seed."""
    mine, other = ours.values.get(metric, {}), theirs.values.get(metric, {})
    seeds = sorted(mine.keys() & other.keys())
    if not seeds:
        return None
    return paired_difference(np.array([mine[seed] for seed in seeds]), np.array([other[seed] for seed in seeds]))


def _as_a_whole(fair: Section, paper: Section) -> str:
    theirs = {row.spec: row for row in paper.rows}
    both = [(row, theirs[row.spec]) for row in fair.rows if row.spec in theirs and "auroc" in row.summaries]
    both = [(row, other) for row, other in both if "auroc" in other.summaries]
    gains = any("accuracy_gain" in row.values and "accuracy_gain" in other.values for row, other in both)
    header = ["Method", "AUROC, paper", "AUROC, fair", "Difference", "Detection %, paper", "Detection %, fair"]
    header += ["Gain, paper", "Gain, fair", "Difference of gains"] if gains else []
    body = []
    for row, other in both:
        line = [row_name(row), fraction(other.summaries["auroc"]), fraction(row.summaries["auroc"])]
        line.append(difference_of(change(row, other, "auroc")))
        line += [percent(side.summaries["detection_accuracy"]) for side in (other, row)]
        if gains:
            line += [points(other.gain), points(row.gain), points(change(row, other, "accuracy_gain"))]
        body.append(line)
    if not body:
        return ""
    heading = f"## What the protocol alone changes: `{fair.spec}`, preset {fair.preset}"
    note = (
        "Differences are fair − paper, paired by seed, with Student's 95 % intervals from 2 seeds on; gains in points."
    )
    if fair.constant or paper.constant:
        counts = ", ".join(f"{len(s.constant)} of {len(s.seeds)} in {s.protocol}" for s in (fair, paper) if s.constant)
        note += f" In some seeds the base model gives every sample the same class, so scores have no meaning: {counts}."
    return "\n\n".join([heading, markdown_table(header, body), note])


def quirks(cls: type, preset: str | None) -> dict[str, Any]:
    """The parameters whose value differs between the protocols, with the value of the protocol `paper`."""
    usual = {name: default for name, (_, default) in fields_of(cls).items()}
    fair, paper = (usual | layered(cls, protocol, preset, {}) for protocol in ("fair", "paper"))
    return {name: value for name, value in paper.items() if fair[name] != value}


@dataclass(frozen=True)
class Alone:
    """A method's row with one quirk of the protocol `paper`, and its row without; both in the protocol `fair`."""

    changed: str
    """The spec of the method with the quirk, or the task's changed parameter in brackets."""
    quirk: Row
    plain: Row


def of_methods(section: Section) -> tuple[list[Alone], list[str]]:
    """The quirks of methods that were run alone on a task in `fair`, and the specs of those that were not."""
    rows = {row.spec: row for row in section.rows if row.values}
    found, absent = [], []
    for spec, row in rows.items():
        term = parse_term(spec)
        if term.params or term.pattern not in METHODS.classes():
            continue
        for name, value in quirks(METHODS.get(term.pattern), None).items():
            alone = format_term(term.pattern, {name: value})
            if alone in rows:
                found.append(Alone(alone, rows[alone], row))
            else:
                absent.append(alone)
    return found, absent


def of_task(section: Section, shown: Sequence[Section]) -> list[Alone]:
    """The quirks of a task that were run alone in `fair`, for each method that ran with and without."""
    if section.task not in TASKS.classes():
        return []
    params = json.loads(section.params)
    return [
        Alone(format_term("", {name: value}), theirs[row.spec], row)
        for name, value in quirks(TASKS.get(section.task), section.preset).items()
        if params.get(name) != value
        for other in shown
        if (other.task, other.protocol, other.preset, other.alive) == (section.task, "fair", section.preset, False)
        and json.loads(other.params) == {**params, name: value}
        for theirs in [{row.spec: row for row in other.rows}]
        for row in section.rows
        if row.spec in theirs and row.values
    ]


def _by_quirk(section: Section, shown: Sequence[Section]) -> tuple[list[str], list[str]]:
    """Tables of what each quirk of a method and of the task is worth alone, and the commands that run missing ones."""
    parts, missing = [], []
    found, absent = of_methods(section)
    where = f"`{section.spec}`, protocol fair, preset {section.preset}"
    moves = ["AUROC without", "AUROC with", "Difference", "Difference of gains, points"]
    if found:
        body = [[f"`{alone.changed}`", *_moved(alone)] for alone in found]
        heading = f"## What one quirk of a method alone changes: {where}"
        parts.append("\n\n".join([heading, markdown_table(["Method", *moves], body)]))
    given = f"--seeds {len(section.seeds)} --preset {section.preset}"
    if absent:
        missing.append(f"python -m harness run --methods '{','.join(absent)}' --tasks '{section.spec}' {given}")
    found = of_task(section, shown)
    if found:
        body = [[row_name(alone.plain), f"`{alone.changed}`", *_moved(alone)] for alone in found]
        heading = f"## What one quirk of the task alone changes: {where}"
        parts.append("\n\n".join([heading, markdown_table(["Method", "Changed parameter", *moves], body)]))
    elif section.task in TASKS.classes():
        single = [
            _changed(section.spec, name, value)
            for name, value in quirks(TASKS.get(section.task), section.preset).items()
            if _valid(section, name, value)
        ]
        if single:
            plain = ",".join(row.spec for row in section.rows if row.values and not changes(row.spec))
            missing.append(f"python -m harness run --methods '{plain}' --tasks '{','.join(single)}' {given}")
    return parts, missing


def _valid(section: Section, name: str, value: Any) -> bool:
    """Whether a quirk can be set alone. Some cannot: 100 test samples are all validation samples of `fair`."""
    try:
        build(TASKS.get(section.task), {**json.loads(section.params), name: value})
    except RequestError:
        return False
    return True


def _changed(spec: str, name: str, value: Any) -> str:
    """A task's spec with one parameter added."""
    term = parse_term(spec)
    return format_term(term.pattern, {**term.params, name: value})


def _moved(alone: Alone) -> list[str]:
    before, after = alone.plain.summaries.get("auroc"), alone.quirk.summaries.get("auroc")
    return [
        fraction(before) if before else "—",
        fraction(after) if after else "—",
        difference_of(change(alone.quirk, alone.plain, "auroc")),
        points(change(alone.quirk, alone.plain, "accuracy_gain")),
    ]
