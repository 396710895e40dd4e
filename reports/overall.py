"""All tasks together: mean ranks, wins, and whether ranks differ by more than chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.results.scored import scoring_params
from reports.comparison import Section
from reports.controls import CONTROLS

LEVEL = 0.05
FEWEST_TASKS = 5
"""With fewer tasks than this, Friedman's test has hardly any power and its p-value is a poor approximation."""


@dataclass(frozen=True)
class Overall:
    """One metric of all methods on all tasks of one protocol and preset.

    Args:
        metric, protocol, preset: what is ranked.
        tasks: the tasks' specs.
        values: means over seeds, one row per method's spec and one column per task; NaN where a method has no result.
        titles: the methods' titles by spec.
        ranks: of the methods that have a result on every task, without controls: 1 is best; equal values share the
            mean rank.
        friedman: p-value of Friedman's test that all ranked methods are equal; None with fewer than
            `FEWEST_TASKS` tasks or 3 methods.
        critical: Nemenyi's critical difference of mean ranks at 5 % (Demšar, JMLR 2006); None as `friedman`.
    """

    metric: str
    protocol: str
    preset: str
    tasks: list[str]
    values: pd.DataFrame
    titles: dict[str, str]
    ranks: pd.DataFrame
    friedman: float | None
    critical: float | None

    @property
    def mean_ranks(self) -> pd.Series:
        """Best first."""
        return self.ranks.mean(axis=1).sort_values(kind="stable")

    @property
    def wins(self) -> pd.Series:
        """On how many tasks a method is best; a shared first place counts for all that share it."""
        return self.ranks.eq(self.ranks.min(axis=0), axis=1).sum(axis=1)


def overall(sections: Sequence[Section], metric: str = "auroc") -> list[Overall]:
    """One comparison for each protocol and preset with at least two tasks and two methods that have the metric.

    Of sections that differ in the budget, in what is done with suspects or in retraining, only the first is counted,
    because they rank the same scores. Sections of a part of the seeds are left out. Stale results count as missing.
    """
    by_setup: dict[tuple[str, str], dict[str, Section]] = {}
    for section in sections:
        params = json.loads(section.params)
        kept = scoring_params(params)
        if not section.alive and any(metric in row.summaries for row in section.rows):
            of_setup = by_setup.setdefault((section.protocol, section.preset), {})
            of_setup.setdefault(json.dumps([section.task, kept], sort_keys=True), section)
    found = [_overall(list(mine.values()), metric) for mine in by_setup.values() if len(mine) > 1]
    return [each for each in found if len(each.ranks) > 1]


def _overall(sections: Sequence[Section], metric: str) -> Overall:
    columns = {
        section.spec: {
            row.spec: row.summaries[metric].mean for row in section.rows if metric in row.summaries and row.complete
        }
        for section in sections
    }
    titles = {row.spec: row.title for section in sections for row in section.rows if metric in row.summaries}
    values = pd.DataFrame(columns, index=sorted(titles), dtype=float)
    complete = values.drop(index=[spec for spec in CONTROLS if spec in values.index]).dropna()
    ranks = complete.round(3).rank(ascending=False)
    friedman = critical = None
    if ranks.shape[1] >= FEWEST_TASKS and ranks.shape[0] >= 3:
        from scipy.stats import friedmanchisquare, studentized_range

        k, n = ranks.shape
        friedman = float(friedmanchisquare(*complete.round(3).to_numpy()).pvalue)
        critical = float(studentized_range.isf(LEVEL, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))
    first = sections[0]
    return Overall(metric, first.protocol, first.preset, list(columns), values, titles, ranks, friedman, critical)
