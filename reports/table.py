"""Markdown tables, and what stands in the cells of several tables."""

from __future__ import annotations

from collections.abc import Sequence

from harness.interfaces.spec import changes
from harness.results.statistics import Difference
from reports.comparison import Row
from reports.words import plus, signed

WORDS = {
    *(
        "Sees class labels",
        "Uses",
        "Task",
        "Method",
        "Metric",
        "Note",
        "Changed parameter",
        "Kind",
        "Printed complexity",
    ),
    *("Protocol, preset", "Highest AUROC", "Highest AUROC or AUC", "Highest gain, points", "Most of it"),
}
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


def row_name(row: Row) -> str:
    """The method's title with the parameters that its spec names; † if a result is stale."""
    changed = changes(row.spec)
    return f"{row.title}{f' `{changed}`' if changed else ''}{' †' if row.stale else ''}"


def points(difference: Difference | None) -> str:
    """A difference of shares as points, with its interval."""
    if difference is None:
        return "—"
    if difference.low is None or difference.high is None:
        return signed(difference.mean)
    return f"{signed(difference.mean)} [{signed(difference.low)}, {signed(difference.high)}]"


def difference_of(difference: Difference | None, digits: int = 3) -> str:
    """A difference with its interval."""
    if difference is None:
        return "—"
    if difference.low is None or difference.high is None:
        return plus(difference.mean, digits)
    return f"{plus(difference.mean, digits)} [{plus(difference.low, digits)}, {plus(difference.high, digits)}]"
