"""What a report begins with: one row per experiment, with the best method by each measure and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from reports.comparison import SORTED_BY, Row, Section
from reports.controls import CONTROLS
from reports.table import markdown_table, points, row_name
from reports.words import fraction


def overview(sections: Sequence[Section]) -> list[str]:
    """Markdown; empty for a single experiment."""
    whole = [section for section in sections if not section.alive]
    if len(whole) < 2:
        return []
    alive = {(section.spec, section.protocol, section.preset): section for section in sections if section.alive}
    shown = [(section, alive.get((section.spec, section.protocol, section.preset), section)) for section in whole]
    header = ["Task", "Protocol, preset", "Seeds", "Methods", "Highest AUROC", "Highest gain, points"]
    found = {row.sorted_by for section in whole for row in section.rows if row.sorted_by}
    header[4] = "Highest " + (" or ".join(text for metric, text in SORTED_BY.items() if metric in found) or "AUROC")
    body = []
    for section, told in shown:
        rows = [row for row in told.rows if row.spec not in CONTROLS]
        body.append(
            [
                f"{section.title} `{section.spec}`",
                f"{section.protocol}, {section.preset}",
                f"{len(told.seeds)} of {len(section.seeds)} ¶" if told is not section else str(len(section.seeds)),
                _counted(rows),
                _by_ranking(rows),
                _by_gain(rows),
            ]
        )
    note = "Without controls. *And … more*: methods with the same AUROC to three decimals."
    if any("¶" in line[2] for line in body):
        note += " ¶ Only seeds whose base model tells classes apart; in the others, scores have no meaning."
    return [markdown_table(header, body), note]


def _counted(rows: Sequence[Row]) -> str:
    shown = [row for row in rows if not row.skipped]
    incomplete, stale = sum(bool(row.troubles) for row in shown), sum(row.stale for row in shown)
    told = [str(len(shown))]
    told += [f"{count} {what}" for count, what in ((incomplete, "incomplete"), (stale, "stale")) if count]
    return ", ".join(told)


def _by_ranking(rows: Sequence[Row]) -> str:
    measured = [
        (row.summaries[row.sorted_by].mean, row, row.summaries[row.sorted_by])
        for row in rows
        if row.complete and row.sorted_by is not None
    ]
    if not measured:
        return "—"
    best = max(measured, key=lambda entry: entry[0])
    equal = sum(round(mean, 3) == round(best[0], 3) for mean, _, _ in measured) - 1
    return f"{row_name(best[1])} {fraction(best[2])}" + (f" (and {equal} more)" if equal else "")


def _by_gain(rows: Sequence[Row]) -> str:
    measured = [(row.gain.mean, row) for row in rows if row.gain is not None and row.complete]
    if not measured or max(abs(mean) for mean, _ in measured) == 0:
        return "—"
    mean, best = max(measured, key=lambda entry: entry[0])
    if mean <= 0:
        return "none above 0"
    return f"{row_name(best)} {points(best.gain)}"
