"""The comparison on a terminal: one narrow table per task, best first."""

from __future__ import annotations

import io
import shutil
from collections.abc import Collection

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.statistics import Difference
from reports.comparison import Row, Section, sections
from reports.words import caption, fraction, percent, plus, seconds

NARROW = {
    "auroc": "AUROC",
    "precision_at_errors": "Precision at #errors %",
    "lds": "LDS",
    "flips": "Flips %",
    "class_detection_auc": "Class detection AUC",
    "class_detection_recall": "Class detection recall",
}
"""The columns of a terminal. `--wide` and reports show all."""

FRACTIONS = ("auroc", "lds", "class_detection_auc", "class_detection_recall")

NO_TERMINAL = (80, 24)
"""Size where the output is no terminal."""


def terminal_tables(frame: pd.DataFrame, stale: Collection[str] = (), colour: bool = False) -> str:
    """The tables of a tidy table, as wide as the terminal.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code.
        colour: whether bold and dim are shown by escape codes.
    """
    width = shutil.get_terminal_size(NO_TERMINAL).columns
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=True, highlight=False, emoji=False)
    for section in sections(frame, stale):
        _print(console, section, colour)
    return out.getvalue()


def _print(console: Console, section: Section, colour: bool) -> None:
    heading = f"{section.title}: {section.spec}, protocol {section.protocol}, preset {section.preset}"
    console.print(Text(f"{heading}, only seeds whose model tells classes apart" if section.alive else heading, "bold"))
    console.print(_facts(section))
    rows = [row for row in section.rows if not row.skipped] or section.rows
    shown = [metric for metric in NARROW if any(metric in row.summaries for row in rows)]
    if "lds" in shown:
        shown = [metric for metric in shown if not metric.startswith("class_detection")]
    gains = any(row.gain for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("Method", overflow="fold", ratio=None)
    for name in (*(NARROW[metric] for metric in shown), *(["Gain, points"] if gains else []), "Total s"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        cells = [_cell(row, metric, section, colour) for metric in shown]
        cells += [Text(_gain(row.gain))] if gains else []
        table.add_row(Text(f"{row.spec}{' †' if row.stale else ''}"), *cells, seconds(row.total_seconds))
    console.print(table)
    console.print(Text(_told(section, colour), "dim"))
    noted: dict[str, list[str]] = {}
    for row in section.rows:
        for note in row.troubles:
            noted.setdefault(note, []).append(row.spec)
    for note, specs in noted.items():
        console.print(Text(f"{', '.join(specs)}: {note}"))
    console.print()


def _facts(section: Section) -> str:
    """The size of the problem in one line."""
    facts, seeds = section.facts, len(section.seeds)
    told = [f"{seeds} seed{'s' if seeds > 1 else ''}"]
    for name, what in (("n_train", "samples"), ("n_noisy", "with a wrong label"), ("n_flagged", "flagged")):
        if facts[name]:
            low, high = int(min(facts[name])), int(max(facts[name]))
            told.append(f"{low if low == high else f'{low}–{high}'} {what}")
    if facts["accuracy_base"]:
        told.append(f"untrimmed accuracy {percent(facts['accuracy_base'])} %")
    return ", ".join(told)


def _told(section: Section, colour: bool) -> str:
    """How to read the table. Without a terminal a star stands for bold."""
    text = caption(section, False)
    if any(row.gain and row.gain.low is not None for row in section.rows):
        text += " Gain: test accuracy after trimming less before, with the half-width of Student's 95 % interval."
    return text if colour else text.replace("Bold:", "*:")


def _cell(row: Row, metric: str, section: Section, colour: bool) -> Text:
    summary = row.summaries.get(metric)
    if summary is None:
        return Text(row.troubles[0].split(" in ")[0] if row.troubles else "—")
    text = fraction(summary) if metric in FRACTIONS else percent(summary)
    best = row.spec in section.best.get(metric, set())
    if summary.count != row.expected:
        text += f" ({summary.count}/{row.expected})"
    return Text(text if colour or not best else f"*{text}", "bold" if best else "")


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return "—"
    if gain.low is None or gain.high is None:
        return plus(100 * gain.mean, 1)
    return f"{plus(100 * gain.mean, 1)} ± {50 * (gain.high - gain.low):.1f}"
