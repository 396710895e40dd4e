"""The worth of one task parameter, in a table: runs that differ in a single parameter, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.comparison import Section
from reports.table import markdown_table, points
from reports.variants import differences, variants
from reports.words import plus


def variants_compared(frame: pd.DataFrame, shown: Sequence[Section]) -> list[str]:
    """For each task that was run with one parameter changed: how much this parameter changes the metrics."""
    parts = []
    for base, changed in variants([section for section in shown if not section.alive]):
        body = []
        for what, other in changed:
            found_here = differences(frame, base, other)
            if not found_here:
                continue
            line = [f"`{what}`", *(points(found_here.get(metric)) for metric in ("accuracy_base", "accuracy_gain"))]
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
