"""The comparison as markdown, in the manner of the paper's tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from harness.interfaces.spec import changes
from harness.results.statistics import Difference
from reports.comparison import Row, Section, sections
from reports.published import Published, published
from reports.variants import differences, variants
from reports.words import CLEAN_CONTROL, caption, facts_of, fraction, percent, plus, seconds, signed

COLUMNS = {
    "auroc": "AUROC",
    "precision_at_errors": "Precision at #errors %",
    "precision": "Precision of flagged %",
    "own_f1": "F1 of own flags %",
    "detection_accuracy": "Detection accuracy %",
    "accuracy": "Accuracy after trimming %",
}
"""Of detection tasks. Detection accuracy is shown where the paper prints it: most sane methods are equal by it."""

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
) -> str:
    """The whole report of a tidy table.

    Args:
        frame: as from `harness.load_results`.
        title: the heading.
        commands: the commands that made the results.
        stale: keys of cells that were computed with other code than the current code.
        problems: damaged files that were left out.
    """
    parts = [f"# {title}", *provenance(frame, commands)]
    if problems:
        parts.append("**Damaged files, left out:**\n\n" + "\n".join(f"- {problem}" for problem in problems))
    shown = sections(frame, stale)
    for section in shown:
        parts.append(_section(section))
    parts += _protocols_compared(shown) + _variants_compared(frame[~frame["key"].isin(list(stale))], shown)
    return "\n\n".join(parts) + "\n"


def tables(frame: pd.DataFrame, stale: Collection[str] = ()) -> str:
    """The tables alone, as printed at the end of a run."""
    shown = sections(frame, stale)
    compared = _protocols_compared(shown) + _variants_compared(frame[~frame["key"].isin(list(stale))], shown)
    return "\n\n".join([_section(section) for section in shown] + compared) + "\n"


def provenance(frame: pd.DataFrame, commands: Sequence[str]) -> list[str]:
    lines = []
    if commands:
        lines.append("Made by:\n\n```\n" + "\n".join(commands) + "\n```")
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


def _section(section: Section) -> str:
    rows = section.rows
    columns = ATTRIBUTION if any(row.attributes for row in rows) else COLUMNS
    printed = {
        metric: {row.spec: published(section.task, section.params, row.spec, metric) for row in rows}
        for metric in ("detection_accuracy", "accuracy", *ATTRIBUTION)
        if metric in columns
    }
    printed = {metric: values for metric, values in printed.items() if any(values.values())}
    left_out = {"detection_accuracy"} - printed.keys()
    shown = [metric for metric in columns if metric not in left_out and any(metric in row.summaries for row in rows)]
    header = ["Method", *(columns[metric] for metric in shown)]
    if "accuracy" in shown:
        header.append("Gain, points [95 % CI]")
    header += [
        "Scoring s",
        "Total s",
        "Most of it",
        "Uses",
        *(f"Printed: {columns[metric][0].lower()}{columns[metric][1:]}" for metric in printed),
    ]
    body = []
    for row in [row for row in rows if not row.skipped] or rows:
        line = [_name(row), *(_value(row, metric, section) for metric in shown)]
        if "accuracy" in shown:
            line.append(_gain(row.gain))
        line += [seconds(row.score_seconds), seconds(row.total_seconds), row.dearest or "—", ", ".join(row.uses) or "—"]
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


def _protocols_compared(shown: Sequence[Section]) -> list[str]:
    """For each task that was run in both protocols: how much the protocol changes each method's metrics."""
    parts = []
    by_task: dict[tuple[str, str], dict[str, Section]] = {}
    for section in (section for section in shown if not section.alive):
        by_task.setdefault((section.spec, section.preset), {})[section.protocol] = section
    for (spec, preset), both in by_task.items():
        if set(both) < {"fair", "paper"}:
            continue
        fair, paper = both["fair"], both["paper"]
        theirs = {row.spec: row for row in paper.rows}
        body = []
        for row in fair.rows:
            other = theirs.get(row.spec)
            if other is None or "auroc" not in row.summaries or "auroc" not in other.summaries:
                continue
            change = row.summaries["auroc"].mean - other.summaries["auroc"].mean
            body.append(
                [
                    _name(row),
                    fraction(other.summaries["auroc"]),
                    fraction(row.summaries["auroc"]),
                    plus(change, 3),
                    percent(other.summaries["detection_accuracy"]),
                    percent(row.summaries["detection_accuracy"]),
                ]
            )
        if body:
            header = ["Method", "AUROC, paper", "AUROC, fair", "Difference", "Detection %, paper", "Detection %, fair"]
            parts.append(
                f"## What the protocol alone changes: `{spec}`, preset {preset}\n\n{markdown_table(header, body)}"
            )
    return parts


def _variants_compared(frame: pd.DataFrame, shown: Sequence[Section]) -> list[str]:
    """For each task that was run with one parameter changed: how much this parameter changes the metrics."""
    parts = []
    for base, changed in variants([section for section in shown if not section.alive]):
        body = []
        for what, other in changed:
            found_here = differences(frame, base, other)
            if not found_here:
                continue
            line = [f"`{what}`", *(_gain(found_here.get(metric)) for metric in ("accuracy_base", "accuracy_gain"))]
            by_method = {key[6:]: value for key, value in found_here.items() if key.startswith("auroc:")}
            auroc = found_here.get("auroc")
            line.append(plus(auroc.mean, 3) if auroc else "—")
            if by_method:
                most = max(by_method, key=lambda spec: abs(by_method[spec].mean))
                moved = by_method[most].mean
                line.append(f"`{most}` {plus(moved, 3)}" if abs(moved) >= 0.0005 else "none")
            else:
                line.append("—")
            body.append(line)
        if body:
            header = [
                "Changed parameter",
                "Untrimmed accuracy, points",
                "Gain by trimming, points",
                "AUROC",
                "Method with the largest AUROC change",
            ]
            parts.append(
                f"## What one parameter alone changes: `{base.spec}`, protocol {base.protocol}, preset {base.preset}"
                f"\n\n{markdown_table(header, body)}\n\n*Differences to the run in the heading, paired by seed; "
                f"means over the methods that trim. Student's 95 % intervals are given from 2 seeds on.*"
            )
    return parts


WORDS = {"Sees class labels", "Uses", "Task", "Method", "Metric", "Note"}
"""Columns that hold words and are aligned to the left."""


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A GitHub table with aligned source columns; numbers to the right, words to the left."""
    left = [i == 0 or name in WORDS for i, name in enumerate(header)]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in [header, *body]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    rule = ["-" * width if at_left else "-" * (width - 1) + ":" for width, at_left in zip(widths, left, strict=True)]

    def line(parts: Sequence[str]) -> str:
        padded = [p.ljust(w) if at_left else p.rjust(w) for p, w, at_left in zip(parts, widths, left, strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])


def _name(row: Row) -> str:
    changed = changes(row.spec)
    return f"{row.title}{f' `{changed}`' if changed else ''}{' †' if row.stale else ''}"


def _value(row: Row, metric: str, section: Section) -> str:
    summary = row.summaries.get(metric)
    if summary is None:
        statuses = [trouble.split(" in ")[0] for trouble in row.troubles]
        return statuses[0] if statuses else "—"
    text = fraction(summary) if metric == "auroc" else percent(summary)
    if metric in ATTRIBUTION:
        text = f"{summary.mean:.3f} ± {row.summaries[f'{metric}_std'].mean:.3f}"
    if row.spec in section.best[metric]:
        text = f"**{text}**"
    return text if summary.count == row.expected else f"{text} ({summary.count}/{row.expected} seeds)"


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return "—"
    if gain.low is None or gain.high is None:
        return signed(gain.mean)
    return f"{signed(gain.mean)} [{signed(gain.low)}, {signed(gain.high)}]"


def _printed(number: Published | None) -> str:
    return "—" if number is None else str(number)
