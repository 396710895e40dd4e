"""What a report begins with: one row per experiment, with the best method by each measure and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from reports.comparison import Row, Section
from reports.table import markdown_table, points, row_name
from reports.words import CONTROLS, fraction


def overview(sections: Sequence[Section]) -> list[str]:
    """Markdown; empty for a single experiment."""
    shown = [section for section in sections if not section.alive]
    if len(shown) < 2:
        return []
    header = ["Task", "Protocol, preset", "Seeds", "Methods", "Highest AUROC", "Highest gain, points"]
    attributes = any("class_detection_auc" in row.summaries for section in shown for row in section.rows)
    if attributes:
        header[4] = "Highest AUROC or AUC"
    body = []
    for section in shown:
        rows = [row for row in section.rows if row.spec not in CONTROLS]
        body.append(
            [
                f"{section.title} `{section.spec}`",
                f"{section.protocol}, {section.preset}",
                str(len(section.seeds)),
                _counted(rows),
                _by_ranking(rows),
                _by_gain(rows),
            ]
        )
    return [markdown_table(header, body)]


def _counted(rows: Sequence[Row]) -> str:
    incomplete = sum(not row.complete and not row.skipped for row in rows)
    whole = f"{sum(not row.skipped for row in rows)}"
    return f"{whole}, {incomplete} incomplete" if incomplete else whole


def _by_ranking(rows: Sequence[Row]) -> str:
    measured = [
        (summary.mean, row, summary)
        for row in rows
        if row.complete
        and (summary := row.summaries.get("auroc") or row.summaries.get("class_detection_auc")) is not None
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
    best = max(measured, key=lambda entry: entry[0])[1]
    return f"{row_name(best)} {points(best.gain)}"
