"""Every method against one of them, seed by seed: differences with intervals, and p-values corrected over methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.errors import RequestError, did_you_mean
from harness.results.statistics import holm, paired_p_values
from reports.comparison import LEVEL, Row, Section
from reports.protocols import change
from reports.table import difference_of, markdown_table, points, row_name

METRICS = {"auroc": "AUROC", "accuracy_gain": "gain, points", "lds": "LDS"}


def against(sections: Sequence[Section], baseline: str) -> str:
    """Markdown: one table per section that has the baseline.

    Args:
        baseline: the spec of a method, or its name if only one spec has the name.

    Raises:
        RequestError: no section has this method with a result.
    """
    parts = [_table(section, _row(section, baseline)) for section in sections if _row(section, baseline)]
    if not parts:
        known = sorted({row.spec for section in sections for row in section.rows if row.values})
        raise RequestError(
            f"--baseline {baseline} has no result here{did_you_mean(baseline, known)}; there is: {', '.join(known)}"
        )
    return "\n\n".join([f"# Differences to `{baseline}`", *parts]) + "\n"


def _row(section: Section, baseline: str) -> Row | None:
    rows = [row for row in section.rows if row.values and row.spec == baseline]
    named = [row for row in section.rows if row.values and row.spec.partition("[")[0] == baseline]
    return rows[0] if rows else named[0] if len(named) == 1 else None


def _table(section: Section, baseline: Row | None) -> str:
    assert baseline is not None
    others = [row for row in section.rows if row is not baseline and row.values]
    metrics = [metric for metric in METRICS if metric in baseline.values]
    p_values = {metric: _corrected(others, baseline, metric) for metric in metrics}
    header = ["Method"]
    for metric in metrics:
        header += [f"Difference of {METRICS[metric]}", "p (Holm)"]
    body = []
    for row in others:
        line = [row_name(row)]
        for metric in metrics:
            difference = change(row, baseline, metric)
            text = points(difference) if metric == "accuracy_gain" else difference_of(difference)
            p = p_values[metric].get(row.spec)
            shown = p is not None and p < LEVEL
            line += [f"**{text}**" if shown else text, "—" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"]
        body.append(line)
    heading = f"## {section.title}: `{section.spec}`, protocol {section.protocol}, preset {section.preset}"
    seeds = len(section.seeds)
    paired = f"Method − {baseline.title}, paired over {seeds} seed{'s' * (seeds != 1)}, with Student's 95 % intervals."
    note = f"{paired} p-values are of paired t-tests, corrected over the methods by Holm's method. Bold: p < 0.05."
    return "\n\n".join([heading, markdown_table(header, body), note])


def _corrected(rows: Sequence[Row], baseline: Row, metric: str) -> Mapping[str, float]:
    """Holm's p-values by spec, of the rows with two seeds or more in common with the baseline."""
    theirs = baseline.values[metric]
    raw = {}
    for row in rows:
        seeds = sorted(row.values.get(metric, {}).keys() & theirs.keys())
        if len(seeds) > 1:
            pair = np.array([[side[seed] for seed in seeds] for side in (row.values[metric], theirs)])
            raw[row.spec] = float(paired_p_values(pair[0], pair[1]))
    return dict(zip(raw, holm(np.array(list(raw.values()))), strict=True)) if raw else {}
