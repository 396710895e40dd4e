"""From the tidy table to comparisons: one section per task and protocol, one row per method, one summary per metric."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from harness.results.statistics import Difference, Summary, holm, paired_difference, paired_p_values, summarise
from reports.controls import CONTROLS
from reports.health import health_notes
from reports.measured_cells import OF_CELL, MeasuredCell, measured_cells

RANKED = {
    "detection_accuracy": 3,
    "auroc": 3,
    "precision": 3,
    "precision_at_errors": 3,
    "own_f1": 3,
    "accuracy": 3,
    "lds": 3,
    "flips": 3,
    "class_detection_auc": 3,
    "class_detection_recall": 3,
    "class_detection_recall_absolute": 3,
}
"""Ranked metrics, each with the decimals (of fractions) that reports show. Means that look equal are ranked equal."""

SORTED_BY = {"auroc": "AUROC", "lds": "LDS", "class_detection_auc": "AUC"}
"""What methods are sorted by: the first of these metrics that they have."""

LEVEL = 0.05
"""A method is shown to be worse than the best one if its adjusted p-value is below this level."""
FEWEST_SEEDS = 3
"""With fewer seeds no method is bold, because hardly any difference can be shown."""

ABILITIES = ("loss_before", "loss", "accuracy_before", "accuracy")
"""Metrics of a language model before and after fine-tuning."""


@dataclass
class Row:
    """A method in a section; summaries are over the seeds that are ``ok``."""

    spec: str
    title: str
    uses: tuple[str, ...]
    expected: int
    summaries: dict[str, Summary]
    gain: Difference | None
    score_seconds: float | None
    total_seconds: float | None
    dearest: str
    """The largest part of the total: extraction, recording, cross-validation, retraining or scoring."""
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stale: bool = False
    skipped: bool = False
    """Whether the method was skipped in every seed that has a record."""
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    """The finite values by metric and seed."""

    @property
    def attributes(self) -> bool:
        """Whether the row belongs to an attribution task."""
        return "class_detection_auc" in self.summaries or "lds" in self.summaries

    @property
    def sorted_by(self) -> str | None:
        """The metric of `SORTED_BY` that the row has."""
        return next((metric for metric in SORTED_BY if metric in self.summaries), None)

    @property
    def complete(self) -> bool:
        """Whether the row may be ranked: all seeds have results, and the current code computed the results."""
        return not self.troubles and not self.stale


@dataclass
class Section:
    """All methods on one task with its parameters, protocol and preset."""

    task: str
    spec: str
    title: str
    params: str
    protocol: str
    preset: str
    seeds: list[int]
    facts: dict[str, Any]
    rows: list[Row]
    best: dict[str, set[str]]
    alive: bool = False
    """Whether the section holds only the seeds whose base model tells classes apart. Another section holds all."""
    constant: list[int] = field(default_factory=list)
    """Seeds whose base model gives every training sample the same class."""


def sections(frame: pd.DataFrame, stale: Collection[str] = ()) -> list[Section]:
    """Split a tidy table into sections, in order of task, protocol and preset.

    Args:
        frame: as from `harness.load_results`.
        stale: keys of cells that were computed with other code than the current code.
    """
    keys = ["task", "protocol", "preset", "task_params"]
    found = []
    for _, group in frame[list(dict.fromkeys([*keys, *OF_CELL, "metric", "value"]))].groupby(keys, sort=True):
        cells = measured_cells(group)
        dead = {cell.seed for cell in cells if cell.constant}
        found.append(_section(cells, stale, dead))
        if dead and dead < {cell.seed for cell in cells}:
            found.append(_section([cell for cell in cells if cell.seed not in dead], stale, set(), alive=True))
    return found


def _section(cells: Sequence[MeasuredCell], stale: Collection[str], dead: set[int], alive: bool = False) -> Section:
    first = cells[0].about
    by_seed = {cell.seed: cell for cell in reversed(cells)}
    of_row: dict[tuple[str, str], list[MeasuredCell]] = {}
    for cell in cells:
        of_row.setdefault((cell.about["method"], cell.about["method_params"]), []).append(cell)
    rows = sorted((_row(mine, sorted(by_seed), stale) for mine in of_row.values()), key=_rank)
    text = {name: str(first[name]) for name in ("task", "task_spec", "task_title", "task_params", "protocol", "preset")}
    return Section(
        text["task"],
        text["task_spec"],
        text["task_title"],
        text["task_params"],
        text["protocol"],
        text["preset"],
        sorted(by_seed),
        _facts([cell for cell in cells if cell.ok]),
        rows,
        {metric: _best(rows, metric) for metric in RANKED},
        alive,
        sorted(dead),
    )


def _facts(ok: Sequence[MeasuredCell]) -> dict[str, Any]:
    """What the section's completed cells have in common."""
    names = ("n_train", "n_noisy", "device_name", "n_flagged")
    facts: dict[str, Any] = {
        name: sorted({cell.about[name] for cell in ok if cell.about[name] is not None}) for name in names
    }
    facts["n_flagged"] = [count for count in facts["n_flagged"] if count > 0]

    def once_a_seed(metric: str) -> list[float]:
        measured = {cell.seed: cell.metrics.get(metric, math.nan) for cell in reversed(ok)}
        return [value for value in measured.values() if math.isfinite(value)]

    base = once_a_seed("accuracy_base") or (once_a_seed("lds") and once_a_seed("accuracy"))
    facts["accuracy_base"] = summarise(np.array(base)) if base else None
    ceiling = once_a_seed("lds_ceiling")
    facts["lds_ceiling"] = summarise(np.array(ceiling)) if ceiling else None
    facts["truth_seconds"] = float(np.median(once_a_seed("truth_seconds") or [math.nan]))
    facts["abilities"] = {name: summarise(np.array(once_a_seed(name))) for name in ABILITIES if once_a_seed(name)}
    facts["train_seconds"] = _median(list({c.seed: c for c in reversed(ok)}.values()), "train_seconds")
    return facts


def _rank(row: Row) -> tuple[float, str]:
    """Best first; then methods without a metric to sort by."""
    return (-row.summaries[row.sorted_by].mean if row.sorted_by else 2.0, row.spec)


def _row(cells: Sequence[MeasuredCell], seeds: Sequence[int], stale: Collection[str]) -> Row:
    first = cells[0].about
    ok = [cell for cell in cells if cell.ok]
    values: dict[str, dict[int, float]] = {}
    odd: dict[str, int] = {}
    for cell in ok:
        for metric, value in cell.metrics.items():
            if math.isfinite(value):
                values.setdefault(metric, {})[cell.seed] = value
            else:
                odd[metric] = odd.get(metric, 0) + 1
    after, before = values.get("accuracy", {}), values.get("accuracy_base", {})
    both = [seed for seed in after if seed in before]
    pairs = np.array([[side[seed] for seed in both] for side in (after, before)])
    return Row(
        spec=str(first["method_spec"]),
        title=str(first["method_title"]),
        uses=tuple(word for word in str(first["uses"]).split(";") if word),
        expected=len(seeds),
        summaries={metric: summarise(np.array(list(mine.values()))) for metric, mine in sorted(values.items())},
        gain=paired_difference(pairs[0], pairs[1]) if both else None,
        score_seconds=_median(cells, "score_seconds"),
        total_seconds=_median(cells, "total_seconds"),
        dearest=_dearest(cells),
        troubles=_troubles(cells, len(seeds)),
        notes=[
            f"{metric} is no finite number in {count} of {len(seeds)} seeds; these seeds are left out"
            for metric, count in sorted(odd.items())
        ]
        + health_notes([cell.health for cell in ok], [cell.about["n_train"] for cell in ok], _flags(ok)),
        stale=any(cell.about["key"] in stale for cell in cells),
        skipped={cell.about["status"] for cell in cells} == {"skipped"},
        values=values,
    )


def _troubles(cells: Sequence[MeasuredCell], expected: int) -> list[str]:
    """Why a row lacks seeds."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if not cell.ok:
            reasons.setdefault(cell.about["status"], []).append(str(cell.about["error"]))
    told = []
    for status, errors in sorted(reasons.items()):
        reason = (errors[0].splitlines() or ["no reason given"])[0]
        told.append(f"{status} in {len(errors)} of {expected} seeds: {reason}")
    if len(cells) < expected:
        told.append(f"missing in {expected - len(cells)} of {expected} seeds")
    return told


def _flags(cells: Sequence[MeasuredCell]) -> bool:
    return any((cell.about["n_flagged"] or 0) > 0 for cell in cells)


def _median(cells: Sequence[MeasuredCell], name: str) -> float | None:
    known = [cell.about[name] for cell in cells if cell.about[name] is not None]
    return float(np.median(known)) if known else None


def _dearest(cells: Sequence[MeasuredCell]) -> str:
    """The part of `total_seconds` with the largest sum over the seeds; empty if no record has parts."""
    total: dict[str, float] = {}
    for cell in cells:
        for part, seconds in json.loads(cell.about["cost"] or "{}").items():
            if part != "repair":
                total[part] = total.get(part, 0.0) + seconds
    return max(total, key=lambda part: total[part]).replace("_", "-") if any(total.values()) else ""


def _best(rows: list[Row], metric: str) -> set[str]:
    """Specs of the complete rows that are not shown to be worse than the row with the best mean.

    Rows are compared by Student's paired t-test over seeds, with Holm's correction over all pairs of rows. A correction
    over the comparisons with the best row alone would not do: the best of many equal rows is best by chance, and in
    simulations one of 10 equal rows would be called worse in 11 % of the experiments, one of 27 in 16 %. Over all pairs
    it is 2 to 5 %. No specs if there are fewer than `FEWEST_SEEDS`, or if no row is shown to be worse.
    """
    compared = [row for row in rows if row.complete and row.values.get(metric) and row.spec not in CONTROLS]
    ranked = {row.spec: row.values[metric] for row in compared}
    common = set.intersection(*(set(values) for values in ranked.values())) if ranked else set()
    if len(common) < FEWEST_SEEDS or len(ranked) < 2:
        return set()
    seeds = sorted(common)
    by_row = np.array([[values[seed] for seed in seeds] for values in ranked.values()])
    means = [round(float(mean), RANKED[metric]) for mean in by_row.mean(1)]
    top = int(by_row.mean(1).argmax())
    one, other = np.triu_indices(len(by_row), 1)
    adjusted = holm(paired_p_values(by_row[one], by_row[other]))
    rivals = (one + other - top)[((one == top) | (other == top)) & (adjusted < LEVEL)]
    worse = {rival for rival in rivals if means[rival] < means[top]}
    return {spec for i, spec in enumerate(ranked) if i not in worse} if worse else set()
