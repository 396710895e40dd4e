"""From the tidy table to comparisons: one section per task and protocol, one row per method, one summary per metric."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.results.statistics import Difference, Summary, holm, paired_difference, paired_p_value, summarise

RANKED = {
    "detection_accuracy": 3,
    "auroc": 3,
    "precision": 3,
    "precision_at_errors": 3,
    "own_f1": 3,
    "accuracy": 3,
    "class_detection_auc": 3,
    "class_detection_recall": 3,
    "class_detection_recall_absolute": 3,
}
"""Ranked metrics, each with the decimals (of fractions) that reports show. Means that look equal are ranked equal."""

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
    """The ranked metrics by seed."""

    @property
    def attributes(self) -> bool:
        """Whether the row belongs to an attribution task."""
        return "class_detection_auc" in self.summaries

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
    sections = []
    for _, group in frame.groupby(keys, sort=True):
        sections.append(_section(group, stale))
        dead = constant_seeds(group)
        if dead and dead < set(group["seed"]):
            sections.append(_section(group[~group["seed"].isin(dead)], stale, alive=True))
    return sections


def constant_seeds(frame: pd.DataFrame) -> set[int]:
    """Seeds whose base model gives every training sample the same class."""
    ok = frame[frame["status"] == "ok"].drop_duplicates("key")
    constant = [json.loads(text).get("constant_model", False) for text in ok["health"]]
    return set(ok["seed"][constant])


def _section(frame: pd.DataFrame, stale: Collection[str], alive: bool = False) -> Section:
    first = frame.iloc[0]
    seeds = sorted(int(seed) for seed in frame["seed"].unique())
    rows = [_row(cells, seeds, stale) for _, cells in frame.groupby(["method", "method_params"])]
    rows.sort(key=_rank)
    ok = frame[frame["status"] == "ok"]
    facts: dict[str, Any] = {name: sorted(set(ok[name].dropna())) for name in ("n_train", "n_noisy", "device_name")}
    flagged = ok.loc[ok["n_flagged"] > 0, "n_flagged"].dropna().unique()
    facts["n_flagged"] = sorted(flagged)
    base = ok[ok["metric"] == "accuracy_base"].drop_duplicates("seed")["value"]
    facts["accuracy_base"] = summarise(base.to_numpy()) if len(base) else None
    facts["abilities"] = {
        name: summarise(values.drop_duplicates("seed")["value"].to_numpy(dtype=float))
        for name, values in ok[ok["metric"].isin(ABILITIES)].groupby("metric")
    }
    train = ok.drop_duplicates("seed")["train_seconds"].dropna()
    facts["train_seconds"] = float(train.median()) if len(train) else None
    best = {metric: _best(rows, metric) for metric in RANKED}
    text = {name: str(first[name]) for name in ("task", "task_spec", "task_title", "task_params", "protocol", "preset")}
    return Section(
        text["task"],
        text["task_spec"],
        text["task_title"],
        text["task_params"],
        text["protocol"],
        text["preset"],
        seeds,
        facts,
        rows,
        best,
        alive,
        sorted(constant_seeds(frame)),
    )


def _rank(row: Row) -> tuple[float, str]:
    """By AUROC or AUC, best first; then methods without such a metric."""
    summary = row.summaries.get("auroc") or row.summaries.get("class_detection_auc")
    return (-summary.mean if summary else 1.0, row.spec)


def _row(frame: pd.DataFrame, seeds: list[int], stale: Collection[str]) -> Row:
    first = frame.iloc[0]
    ok = frame[frame["status"] == "ok"]
    finite = ok[np.isfinite(ok["value"].astype(float))]
    summaries = {
        str(metric): summarise(values["value"].to_numpy(dtype=float)) for metric, values in finite.groupby("metric")
    }
    by_seed = {
        metric: ok[ok["metric"] == metric].drop_duplicates("seed").set_index("seed")["value"].astype(float)
        for metric in ("accuracy", "accuracy_base")
    }
    pairs = pd.concat(by_seed, axis=1, join="inner").dropna()
    cells = frame.drop_duplicates("seed")
    troubles = []
    for status, failed in cells[cells["status"] != "ok"].groupby("status"):
        reason = (str(failed.iloc[0]["error"]).splitlines() or ["no reason given"])[0]
        troubles.append(f"{status} in {len(failed)} of {len(seeds)} seeds: {reason}")
    odd = ok[ok["metric"].notna() & ~np.isfinite(ok["value"].astype(float))]
    notes = [
        f"{metric} is no finite number in {len(values)} of {len(seeds)} seeds; these seeds are left out"
        for metric, values in odd.groupby("metric")
    ]
    absent = len(seeds) - len(cells)
    if absent:
        troubles.append(f"missing in {absent} of {len(seeds)} seeds")
    return Row(
        spec=str(first["method_spec"]),
        title=str(first["method_title"]),
        uses=tuple(word for word in str(first["uses"]).split(";") if word),
        expected=len(seeds),
        summaries=summaries,
        gain=paired_difference(pairs["accuracy"].to_numpy(), pairs["accuracy_base"].to_numpy()) if len(pairs) else None,
        score_seconds=_median(cells["score_seconds"]),
        total_seconds=_median(cells["total_seconds"]),
        dearest=_dearest(cells),
        troubles=troubles,
        notes=[*notes, *_health_notes(ok.drop_duplicates("seed"))],
        stale=bool(set(frame["key"]) & set(stale)),
        skipped=set(cells["status"]) == {"skipped"},
        values={
            str(metric): dict(zip(cells["seed"].astype(int), cells["value"].astype(float), strict=True))
            for metric, cells in finite[finite["metric"].isin(RANKED)].groupby("metric")
        },
    )


def _median(times: pd.Series) -> float | None:
    known = times.dropna()
    return float(known.median()) if len(known) else None


def _dearest(cells: pd.DataFrame) -> str:
    """The part of `total_seconds` with the largest sum over the seeds; empty if no record has parts."""
    total: dict[str, float] = {}
    for text in cells["cost"].dropna():
        for part, seconds in json.loads(text or "{}").items():
            if part != "repair":
                total[part] = total.get(part, 0.0) + seconds
    return max(total, key=lambda part: total[part]).replace("_", "-") if any(total.values()) else ""


def _health_notes(cells: pd.DataFrame) -> list[str]:
    """What a reader should know before trusting the scores."""
    healths = [json.loads(text) for text in cells["health"]]
    notes = []
    shares = [health.get("largest_tie", 0) / n for health, n in zip(healths, cells["n_train"], strict=True)]
    tied = [share for share in shares if share > 0.5]
    if tied and cells["n_flagged"].max() > 0:
        notes.append(
            f"in {len(tied)} of {len(healths)} seeds, up to {100 * max(tied):.0f} % of the scores are equal up to "
            "rounding; the order of equal scores is chance"
        )
    bad = [health["non_finite"] for health in healths if health.get("non_finite")]
    if bad:
        notes.append(f"up to {max(bad)} scores are not finite in {len(bad)} of {len(healths)} seeds")
    solved = [
        block for health in healths for block in health.values() if isinstance(block, dict) and "converged" in block
    ]
    loose = [block for block in solved if not block["converged"]]
    if loose:
        worst = max(float(block["relative_residual"]) for block in loose)
        most = max(int(block["iterations"]) for block in loose)
        notes.append(
            f"not converged in {len(loose)} of {len(solved)} solves "
            f"({most} iterations, relative residual up to {worst:.2g})"
        )
    return notes


def _best(rows: list[Row], metric: str) -> set[str]:
    """Specs of the complete rows that are not shown to be worse than the row with the best mean.

    Rows are compared by Student's paired t-test over seeds, with Holm's correction over all pairs of rows. A correction
    over the comparisons with the best row alone would not do: the best of many equal rows is best by chance, and in
    simulations one of 10 equal rows would be called worse in 11 % of the experiments, one of 27 in 16 %. Over all pairs
    it is 2 to 5 %. No specs if there are fewer than `FEWEST_SEEDS`, or if no row is shown to be worse.
    """
    ranked = {row.spec: row.values[metric] for row in rows if row.complete and len(row.values.get(metric, {})) > 0}
    common = set.intersection(*(set(values) for values in ranked.values())) if ranked else set()
    if len(common) < FEWEST_SEEDS or len(ranked) < 2:
        return set()
    seeds = sorted(common)
    by_row = {spec: np.array([values[seed] for seed in seeds]) for spec, values in ranked.items()}
    means = {spec: round(float(values.mean()), RANKED[metric]) for spec, values in by_row.items()}
    top = max(by_row, key=lambda spec: float(by_row[spec].mean()))
    pairs = list(combinations(by_row, 2))
    adjusted = holm(np.array([paired_p_value(by_row[one], by_row[other]) for one, other in pairs]))
    differ = {pair for pair, p in zip(pairs, adjusted, strict=True) if p < LEVEL}
    worse = {other for pair in differ if top in pair for other in pair if means[other] < means[top]}
    return by_row.keys() - worse if worse else set()
