"""A comparison of two results as text for a terminal, markdown for a pull request, or JUnit XML for CI."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from harness.gate.verdicts import VERDICTS, Comparison, Line
from reports.harmless import harmless
from reports.table import markdown_table
from reports.words import plus

MOST_NAMED = 10
FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def summary(comparison: Comparison) -> str:
    """One line: the overall verdict, and the number of lines with each verdict."""
    counted = ", ".join(f"{comparison.count(verdict)} {verdict}" for verdict in VERDICTS if comparison.count(verdict))
    verdict = {0: "No worse", 1: "Worse", 2: "Incomplete" if comparison.lines else "Nothing comparable"}[
        comparison.exit_code
    ]
    if not comparison.exit_code and comparison.count("undecided"):
        verdict = "Not shown to be worse"
    missing = f", {len(comparison.missing)} missing" if comparison.missing and counted else ""
    return f"{verdict}: {counted or 'no cell in common'}{missing}."


def as_text(comparison: Comparison) -> str:
    """Aligned lines, worst first. Lines with the verdict ``same`` are only counted."""
    rows = [
        [line.verdict, line.task, line.method, line.metric, *_numbers(line), line.note] for line in _shown(comparison)
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(7)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, summary(comparison), *_missing(comparison)]) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """A table for a comment, worst first."""
    header = ["Verdict", "Task", "Method", "Metric", "BASE → NEW", "Difference", "Note"]
    rows = [
        [f"**{line.verdict}**" if line.verdict == "worse" else line.verdict, f"`{line.task}`", f"`{line.method}`",
         line.metric, *_numbers(line), line.note]
        for line in _shown(comparison)
    ]  # fmt: skip
    table = [markdown_table(header, rows), ""] if rows else []
    return harmless("\n".join([f"**{summary(comparison)}**", "", *table, *_missing(comparison)]).rstrip() + "\n")


def as_junit(comparison: Comparison) -> str:
    """A test suite with one case per line. A worse line fails; an undecided or not compared line is skipped."""
    skipped = comparison.count("not compared") + comparison.count("undecided")
    nothing = int(not comparison.lines)
    tests = len(comparison.lines) + len(comparison.missing) + nothing
    suite = ElementTree.Element(
        "testsuite", name="harness compare", tests=str(tests), failures=str(comparison.count("worse")),
        errors=str(nothing + len(comparison.missing)), skipped=str(skipped),
    )  # fmt: skip
    if nothing:
        case = ElementTree.SubElement(suite, "testcase", classname="harness compare", name="anything comparable")
        ElementTree.SubElement(case, "error", message="BASE and NEW have no comparable cell")
    for cell in comparison.missing:
        case = ElementTree.SubElement(suite, "testcase", classname="harness compare", name=_clean(cell))
        ElementTree.SubElement(case, "error", message="in BASE and not in NEW")
    for line in comparison.lines:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(line.task), name=_clean(f"{line.method} {line.metric}")
        )
        message = _clean("; ".join(sentence for sentence in (*_numbers(line), line.note) if sentence))
        if line.verdict == "worse":
            ElementTree.SubElement(case, "failure", message=message).text = message
        elif line.verdict in ("not compared", "undecided"):
            ElementTree.SubElement(case, "skipped", message=f"{line.verdict}: {message}")
        else:
            ElementTree.SubElement(case, "system-out").text = f"{line.verdict}: {message}"
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """The text without what XML forbids: control characters, as in coloured error messages, and half characters."""
    return FORBIDDEN.sub(" ", text)


def _shown(comparison: Comparison) -> list[Line]:
    order = ("worse", "undecided", "not compared", "better", "no worse")
    shown = [line for line in comparison.lines if line.verdict in order]
    return sorted(shown, key=lambda line: order.index(line.verdict))


def _numbers(line: Line) -> tuple[str, str]:
    """``0.95 → 0.87`` and the difference with its interval."""
    if line.base is None or line.new is None or line.difference is None or line.rule is None:
        return "", ""
    cost = line.metric.endswith(("_seconds", "_mib"))
    form = "{:.3g}" if cost else "{:.3f}"
    factor, sign, digits = (100.0, "%", 1) if line.rule.relative else (1.0, "", None if cost else 3)

    def signed(value: float) -> str:
        return f"{factor * value + 0.0:+.3g}" if digits is None else plus(factor * value, digits)

    interval = ""
    if line.low is not None and line.high is not None:
        interval = f" [{signed(line.low)}, {signed(line.high)}]"
    seeds = f"{line.seeds} seed{'s' * (line.seeds != 1)}, allowed {line.rule.text.partition(':')[2]}"
    return (
        f"{form.format(line.base)} → {form.format(line.new)}",
        f"{signed(line.difference)}{sign}{interval}, {seeds}",
    )


def _missing(comparison: Comparison) -> list[str]:
    if not comparison.missing:
        return []
    named = ", ".join(comparison.missing[:MOST_NAMED])
    more = f" and {len(comparison.missing) - MOST_NAMED} more" if len(comparison.missing) > MOST_NAMED else ""
    return [f"In BASE and not in NEW, so not compared: {named}{more}."]
