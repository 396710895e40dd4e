"""The comparison as markdown, in the manner of the paper's tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pandas as pd

from reports.comparison import Row, Section, sections
from reports.controls import CLEAN_CONTROL
from reports.over_tasks import over_tasks
from reports.overview import overview
from reports.protocols import protocols_compared
from reports.published import Published, published, same_data
from reports.table import markdown_table, points, row_name
from reports.variant_tables import variants_compared
from reports.words import caption, facts_of, fraction, percent, seconds

COLUMNS = {
    "auroc": "AUROC",
    "precision_at_errors": "Precision at #errors %",
    "precision": "Precision of flagged %",
    "own_f1": "F1 of own flags %",
    "detection_accuracy": "Detection accuracy %",
    "accuracy": "Accuracy after trimming %",
}
"""Of detection tasks. Detection accuracy is shown where the paper prints it: most sane methods are equal by it."""

WIDE = ("precision",)
"""Columns that only wide tables have, besides the parts of the total seconds. The budget decides the precision of the
flagged samples; precision at as many samples as are wrong does not depend on it."""

RETRAINED = {
    "lds": "LDS",
    "flips": "Flips without the most helpful %",
    "loss_rise": "Rise of the loss",
}
"""Columns of attribution tasks that are checked against retraining."""

ATTRIBUTION = {
    "class_detection_auc": "Class detection AUC",
    "class_detection_recall": "Class detection recall",
    "class_detection_recall_absolute": "Class detection recall by |influence|",
}
"""Columns of attribution tasks."""


def report(
    frame: pd.DataFrame,
    *,
    title: str = "Results",
    commands: Sequence[str] = (),
    stale: Collection[str] = (),
    problems: Sequence[str] = (),
    wide: bool = False,
) -> str:
    """The whole report of a tidy table.

    Args:
        frame: as from `harness.load_results`.
        title: the heading.
        commands: the commands that made the results.
        stale: keys of cells that were computed with other code than the current code.
        problems: damaged files that were left out.
        wide: show all columns; otherwise `WIDE` are left out.
    """
    shown = sections(frame, stale)
    parts = [f"# {title}", *overview(shown), *provenance(frame, commands)]
    if problems:
        parts.append("**Damaged files, left out:**\n\n" + "\n".join(f"- {problem}" for problem in problems))
    for section in shown:
        parts.append(_section(section, wide))
    parts += _across_sections(frame[~frame["key"].isin(list(stale))], shown)
    return "\n\n".join(parts) + "\n"


def tables(frame: pd.DataFrame, stale: Collection[str] = ()) -> str:
    """The tables alone, with all columns, as printed at the end of a run."""
    shown = sections(frame, stale)
    compared = _across_sections(frame[~frame["key"].isin(list(stale))], shown)
    return "\n\n".join([_section(section, wide=True) for section in shown] + compared) + "\n"


def _across_sections(current: pd.DataFrame, shown: Sequence[Section]) -> list[str]:
    """What sections say together: all tasks, both protocols, one parameter changed."""
    return over_tasks(shown) + protocols_compared(shown) + variants_compared(current, shown)


def provenance(frame: pd.DataFrame, commands: Sequence[str]) -> list[str]:
    lines = []
    if commands:
        longest = max(map(len, re.findall("`+", " ".join(commands))), default=0)
        fence = "`" * max(3, longest + 1)  # that no command can end
        lines.append(f"Made by:\n\n{fence}\n" + "\n".join(commands) + f"\n{fence}")
    facts = [
        ("device", "device_name"),
        ("torch", "torch"),
        ("python", "python"),
        ("commit", "commit"),
    ]
    known = [(what, sorted({str(v) for v in frame[name].unique() if v})) for what, name in facts]
    days = sorted({str(value)[:10] for value in frame["utc"] if value})
    told = [f"{what} {', '.join(values)}" for what, values in known if values]
    if days:
        told.append(days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}")
    if told:
        lines.append(" · ".join(told))
    return lines


def _control_note(rows: Sequence[Row]) -> list[str]:
    """What to run beside methods that see clean validation samples, if the control is not there."""
    guided = any("clean validation" in row.uses for row in rows)
    known = any(row.attributes or row.spec.startswith(CLEAN_CONTROL) for row in rows)
    if known or not guided:
        return []
    return [
        f"- Some methods see clean validation samples. `--methods {CLEAN_CONTROL}` adds the control that shows how "
        "many wrong labels these samples find by themselves."
    ]


def _section(section: Section, wide: bool) -> str:
    rows = section.rows
    columns = RETRAINED | ATTRIBUTION if any(row.attributes for row in rows) else COLUMNS
    printed = {
        metric: {row.spec: published(section.task, section.params, row.spec, metric) for row in rows}
        for metric in ("detection_accuracy", "accuracy", *ATTRIBUTION)
        if metric in columns and same_data(section.spec)
    }
    printed = {metric: values for metric, values in printed.items() if any(values.values())}
    left_out = {"detection_accuracy", *([] if wide else WIDE)} - printed.keys()
    shown = [metric for metric in columns if metric not in left_out and any(metric in row.summaries for row in rows)]
    header = ["Method", *(columns[metric] for metric in shown)]
    if "accuracy" in shown:
        header.append("Gain, points [95 % CI]")
    header += [
        *(["Scoring s", "Total s", "Most of it"] if wide else ["Total s"]),
        "Uses",
        *(f"Printed: {columns[metric][0].lower()}{columns[metric][1:]}" for metric in printed),
    ]
    body = []
    for row in [row for row in rows if not row.skipped] or rows:
        line = [row_name(row), *(_value(row, metric, section) for metric in shown)]
        if "accuracy" in shown:
            line.append(points(row.gain))
        total = seconds(row.total_seconds)
        line += [seconds(row.score_seconds), total, row.dearest or "—"] if wide else [total]
        line.append(", ".join(row.uses) or "—")
        line += [_printed(values[row.spec]) for values in printed.values()]
        body.append(line)
    noted: dict[str, list[str]] = {}
    for row in rows:
        for note in [*row.troubles, *row.notes]:
            noted.setdefault(note, []).append(f"`{row.spec}`")
    notes = [f"- {', '.join(specs)}: {note}" for note, specs in noted.items()]
    notes += _control_note(rows)
    if any(row.stale for row in rows):
        notes.append("- † made by other code than the code at hand; `run --rerun stale` computes it again")
    heading = f"## {section.title}: `{section.spec}`, protocol {section.protocol}, preset {section.preset}"
    parts = [f"{heading}, only seeds whose model tells classes apart" if section.alive else heading]
    if section.constant:
        parts.append(
            f"The base model gives every training sample the same class in {len(section.constant)} of "
            f"{len(section.seeds)} seeds ({', '.join(map(str, section.constant))}). In these seeds the base "
            "model has learnt nothing, so scores from the base model have no meaning."
        )
    parts.append(facts_of(section))
    parts.append(markdown_table(header, body))
    parts.append(caption(section, "detection_accuracy" in shown))
    if notes:
        parts.append("\n".join(notes))
    tables = sorted({number.table for values in printed.values() for number in values.values() if number})
    if tables:
        parts.append(
            f"*Columns 'Printed': Table {', '.join(tables)} of Chhabra et al., ICML 2025, with the setup of that "
            "paper.*"
        )
    return "\n\n".join(parts)


def _value(row: Row, metric: str, section: Section) -> str:
    summary = row.summaries.get(metric)
    if summary is None:
        statuses = [trouble.split(" in ")[0] for trouble in row.troubles]
        return statuses[0] if statuses else "—"
    text = fraction(summary) if metric in ("auroc", "lds", "loss_rise") else percent(summary)
    if metric in ATTRIBUTION:
        text = f"{summary.mean:.3f} ± {row.summaries[f'{metric}_std'].mean:.3f}"
    if row.spec in section.best.get(metric, ()):
        text = f"**{text}**"
    return text if summary.count == row.expected else f"{text} ({summary.count}/{row.expected} seeds)"


def _printed(number: Published | None) -> str:
    return "—" if number is None else str(number)
