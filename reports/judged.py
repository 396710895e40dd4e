"""Tables of rank correlation with a judge, one table per task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.interfaces.spec import changes
from harness.results.statistics import summarise
from reports.table import markdown_table


def judged(frame: pd.DataFrame, judge: str, made: Sequence[str] = ()) -> str:
    """One table per task, protocol and preset: each method's agreement with the judge, best last.

    Args:
        frame: as from `harness.results.agreement.agreement`.
        judge: the judge's name, for the text.
        made: paragraphs on the origin of the results.
    """
    parts = [
        f"# Agreement with `{judge}`",
        *made,
        f"Rank correlation (Spearman) of each method's scores with those of `{judge}` over all training samples of a "
        "seed; mean ± standard deviation over seeds. The last column is the share of the judge's flagged samples "
        "that the method flags too.",
    ]
    for (title, spec, protocol, preset), section in frame.groupby(
        ["task_title", "task_spec", "protocol", "preset"], sort=True
    ):
        seeds = sorted(section["seed"].unique())
        parts.append(f"## {title}: `{spec}`, protocol {protocol}, preset {preset}")
        parts.append(
            f"{len(seeds)} seed{'s' * (len(seeds) != 1)} ({', '.join(map(str, seeds))}); "
            f"{section['n_train'].iloc[0]} training samples."
        )
        rows = []
        for name, cells in section.groupby("method"):
            told = cells["spearman"].dropna().to_numpy()
            mean = summarise(told).mean if len(told) else -2.0
            shown = _mean(told, 2, 1.0) if len(told) else "—"
            missing = f" ({len(told)} of {len(cells)} seeds)" if len(told) < len(cells) else ""
            common = _mean(cells["common"].dropna().to_numpy(), 0, 100.0)
            rows.append((mean, [_called(cells["title"].iloc[0], str(name)), shown + missing, common]))
        rows.sort(key=lambda row: -row[0])
        parts.append(markdown_table(["Method", "Rank correlation", "Flagged in common %"], [row for _, row in rows]))
    return "\n\n".join(parts) + "\n"


def _called(title: str, spec: str) -> str:
    changed = changes(spec)
    return f"{title} `{changed}`" if changed else title


def _mean(values: np.ndarray, decimals: int, factor: float) -> str:
    if not len(values):
        return "—"
    summary = summarise(values)
    spread = "" if summary.std is None else f" ± {factor * summary.std:.{decimals}f}"
    return f"{round(factor * summary.mean, decimals) + 0.0:.{decimals}f}{spread}"
