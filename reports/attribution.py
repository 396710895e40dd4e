"""Attribution against retraining: the LDS of every method on every task, its cost, and which predictions flip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import RequestError
from harness.results.scored import scoring_params
from harness.results.statistics import paired_difference
from harness.selection.names import task_spec
from reports.comparison import Row, Section
from reports.table import markdown_table
from reports.words import seconds, short

MADE_BY = "`python -m harness run --methods all --tasks 'lds_*'`"


def attribution_tables(sections: Sequence[Section]) -> str:
    """Markdown with two tables for each protocol and preset.

    Raises:
        RequestError: no task was checked against retraining.
    """
    checked = [section for section in sections if any("lds" in row.summaries for row in section.rows)]
    if not checked:
        raise RequestError(f"nothing stored is checked against retraining; {MADE_BY} gives such results")
    parts = ["# Attribution against retraining"]
    for protocol, preset in dict.fromkeys((section.protocol, section.preset) for section in checked):
        mine = [section for section in checked if (section.protocol, section.preset) == (protocol, preset)]
        one_budget = list({_without_budget(section): section for section in reversed(mine)}.values())[::-1]
        specs = _ordered(one_budget)
        parts.append(f"## Protocol {protocol}, preset {preset}")
        parts += [markdown_table(*_scores(one_budget, specs)), _told(one_budget)]
        probed = [section for section in mine if any("flips" in row.summaries for row in section.rows)]
        if probed:
            parts += [markdown_table(*_flips(probed, specs)), _told_flips(probed)]
    return "\n\n".join(parts) + "\n"


def _scores(sections: Sequence[Section], specs: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the LDS and its cost: the ceiling, then the methods."""
    header, ceilings = ["Method"], ["*Ceiling, and the truth's cost*"]
    lines = {spec: [f"`{spec}`"] for spec in specs}
    for section in sections:
        header += [f"`{_without_budget(section)}`", "s"]
        first = next(row for row in section.rows if "lds" in row.summaries)
        ceilings += [_interval(first, "lds_ceiling"), seconds(float(section.facts["truth_seconds"]))]
        rows = {row.spec: row for row in section.rows}
        for spec, line in lines.items():
            row = rows.get(spec)
            line += [_cell(row, "lds", section), seconds(row.total_seconds if row and "lds" in row.summaries else None)]
    return header, [ceilings, *lines.values()]


def _flips(sections: Sequence[Section], specs: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the flips at each budget."""
    header, lines = ["Method"], {spec: [f"`{spec}`"] for spec in specs}
    for section in sections:
        share = 100 * float(json.loads(section.params)["budget"])
        header.append(f"`{_without_budget(section)}`, {short(share)} %")
        rows = {row.spec: row for row in section.rows}
        for spec, line in lines.items():
            line.append(_cell(rows.get(spec), "flips", section, 100))
    return header, list(lines.values())


def _ordered(sections: Sequence[Section]) -> list[str]:
    """Methods by the mean of their LDS over the tasks, best first."""
    values: dict[str, list[float]] = {}
    for section in sections:
        for row in section.rows:
            if "lds" in row.summaries:
                values.setdefault(row.spec, []).append(row.summaries["lds"].mean)
    return sorted(values, key=lambda spec: (-len(values[spec]), -float(np.mean(values[spec]))))


def _without_budget(section: Section) -> str:
    """The task's spec without what does not change scores."""
    params: dict[str, Any] = scoring_params(json.loads(section.params))
    return task_spec(section.task, params, section.protocol, section.preset) or section.task


def _cell(row: Row | None, metric: str, section: Section, scale: float = 1) -> str:
    """A method's mean and half-width, or why it has none."""
    if row is None or metric not in row.summaries:
        return row.troubles[0].split(" in ")[0] if row is not None and row.troubles else "—"
    text = _interval(row, metric, scale)
    text = f"**{text}**" if row.spec in section.best.get(metric, ()) else text
    return text + ("" if row.complete else " †" if row.stale else " ‡")


def _interval(row: Row, metric: str, scale: float = 1) -> str:
    """Mean and half-width of Student's 95 % interval over seeds."""
    values = scale * np.array(list(row.values.get(metric, {}).values()))
    if not len(values):
        return "—"
    digits = 3 if scale == 1 else 0
    mean = paired_difference(values, np.zeros(len(values)))
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.{digits}f}"
    return f"{mean.mean:.{digits}f} ± {(mean.high - mean.low) / 2:.{digits}f}"


def _told(sections: Sequence[Section]) -> str:
    """How to read the scores."""
    seeds = sorted({len(section.seeds) for section in sections})
    counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
    told = [
        f"Linear datamodelling scores (LDS), means over {counted} seeds ± half of Student's 95 % interval, and total "
        "seconds of the attributions (medians). Methods are in the order of their mean LDS, those with a score on "
        "every task first. The ceiling is the correlation r of one half of the retrainings with the other half. An "
        "attribution is compared with the mean of both halves, so a perfect one would have about √(2r / (1 + r)).",
        "Bold: not shown to be worse than the best one (paired t-tests over seeds, 5 %, Holm's correction over all "
        "pairs of methods); controls are never bold.",
    ]
    incomplete = [row for section in sections for row in section.rows if "lds" in row.summaries and not row.complete]
    if any(row.stale for row in incomplete):
        told.append("† computed by other code than the code at hand.")
    if any(not row.stale for row in incomplete):
        told.append("‡ some seeds are missing.")
    return " ".join(told)


def _told_flips(sections: Sequence[Section]) -> str:
    """How to read the flips."""
    probed = sorted({int(json.loads(section.params)["probed"]) for section in sections})
    return (
        f"Flips, %: of {' or '.join(map(str, probed))} test samples that the base model classifies rightly, the share "
        "that a model classifies wrongly when it is trained without the training samples that help this test sample "
        "most by the method's attributions. The share of the training samples that is left out stands in the heading."
    )
