"""One table of attribution against retraining: LDS of every method on every task, with intervals, ceilings and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.errors import RequestError
from harness.results.statistics import paired_difference
from reports.comparison import Row, Section
from reports.table import markdown_table
from reports.words import seconds

MADE_BY = "`python -m harness run --methods all --tasks 'lds_*'`"


def attribution_tables(sections: Sequence[Section]) -> str:
    """Markdown with one table for each protocol and preset.

    Raises:
        RequestError: no task was checked against retraining.
    """
    checked = [section for section in sections if any("lds" in row.summaries for row in section.rows)]
    if not checked:
        raise RequestError(f"nothing stored is checked against retraining; {MADE_BY} gives such results")
    parts = ["# Attribution against retraining"]
    for protocol, preset in dict.fromkeys((section.protocol, section.preset) for section in checked):
        mine = [section for section in checked if (section.protocol, section.preset) == (protocol, preset)]
        parts.append(f"## Protocol {protocol}, preset {preset}")
        parts.append(markdown_table(*_table(mine)))
        parts.append(_told(mine))
    return "\n\n".join(parts) + "\n"


def _table(sections: Sequence[Section]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: the ceiling, then methods by their mean LDS."""
    by_task = [{row.spec: row for row in section.rows} for section in sections]
    specs = list(dict.fromkeys(spec for rows in by_task for spec, row in rows.items() if "lds" in row.summaries))
    header = ["Method"]
    for section in sections:
        header += [f"`{section.spec}`", "s"]
    ceilings = ["*Ceiling, and the truth's cost*"]
    for section in sections:
        row = next(row for row in section.rows if "lds" in row.summaries)
        ceilings += [_interval(row, "lds_ceiling"), seconds(float(section.facts["truth_seconds"]))]
    body = [ceilings]
    for spec in sorted(specs, key=lambda spec: -_mean([rows.get(spec) for rows in by_task])):
        line = [f"`{spec}`"]
        for rows, section in zip(by_task, sections, strict=True):
            found = rows.get(spec)
            if found is None or "lds" not in found.summaries:
                line += [_why(found), "—"]
                continue
            text = _interval(found, "lds") + ("" if found.complete else " †" if found.stale else " ‡")
            line += [f"**{text}**" if spec in section.best["lds"] else text, seconds(found.total_seconds)]
        body.append(line)
    return header, body


def _mean(rows: Sequence[Row | None]) -> float:
    known = [row.summaries["lds"].mean for row in rows if row is not None and "lds" in row.summaries]
    return float(np.mean(known))


def _why(row: Row | None) -> str:
    """Why a method has no LDS on a task."""
    return row.troubles[0].split(" in ")[0] if row is not None and row.troubles else "—"


def _interval(row: Row, metric: str) -> str:
    """Mean and half-width of Student's 95 % interval over seeds."""
    values = np.array(list(row.values.get(metric, {}).values()))
    if not len(values):
        return "—"
    mean = paired_difference(values, np.zeros(len(values)))
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.3f}"
    return f"{mean.mean:.3f} ± {(mean.high - mean.low) / 2:.3f}"


def _told(sections: Sequence[Section]) -> str:
    """How to read the table."""
    seeds = sorted({len(section.seeds) for section in sections})
    counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
    told = [
        f"Linear datamodelling scores (LDS), means over {counted} seeds ± half of Student's 95 % interval, and total "
        "seconds of the attributions (medians). Methods are in the order of their mean LDS. The ceiling is the "
        "correlation r of one half of the retrainings with the other half. An attribution is compared with the mean of "
        "both halves, so a perfect one would have about √(2r / (1 + r)).",
        "Bold: not shown to be worse than the best one (paired t-tests over seeds, 5 %, Holm's correction).",
    ]
    marks = {"†": "† computed by other code than the code at hand.", "‡": "‡ some seeds are missing."}
    rows = [row for section in sections for row in section.rows if "lds" in row.summaries and not row.complete]
    if any(row.stale for row in rows):
        told.append(marks["†"])
    if any(not row.stale for row in rows):
        told.append(marks["‡"])
    return " ".join(told)
