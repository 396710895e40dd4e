"""From the tidy table to comparisons: one section per task and protocol, one row per method, one summary per metric."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from harness.results.statistics import Difference, Summary, paired_difference, summarise

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
    """Methods without a detection metric first, then by AUROC or AUC, best last as in the paper's tables."""
    summary = row.summaries.get("auroc") or row.summaries.get("class_detection_auc")
    return (summary.mean if summary else -1.0, row.spec)


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
    """Specs of the two best complete rows, including ties; no specs if ties would mark more than half of the rows."""
    ranked = {
        row.spec: round(row.summaries[metric].mean, RANKED[metric])
        for row in rows
        if row.complete and metric in row.summaries
    }
    top = sorted(ranked.values(), reverse=True)[:2]
    best = {spec for spec, mean in ranked.items() if top and mean >= top[-1]}
    return best if len(best) <= len(ranked) / 2 or len(best) == 2 < len(ranked) else set()
