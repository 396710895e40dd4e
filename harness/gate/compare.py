"""Is NEW worse than BASE? Cells are paired by seed. The interval of the paired difference decides the verdict."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.gate.baseline import SECTION
from harness.gate.verdicts import Comparison, Line, Rule, Verdict
from harness.results.metrics import COSTS

if TYPE_CHECKING:
    import pandas as pd

FALSE_ALARMS = 0.05
"""Upper bound for the chance that a comparison of equals fails in any line. The lines that differ share it equally
(Bonferroni)."""
NOISE_SECONDS = 0.01
"""Times below this number of seconds are noise of the clock."""
EQUAL = 2e-6
"""Largest difference of a metric that rounding in baseline files can cause."""
ROUNDED = 5e-3
"""Largest relative difference of a cost that rounding in baseline files can cause."""


def compare(base: pd.DataFrame, new: pd.DataFrame, rules: Sequence[Rule]) -> Comparison:
    """Compare the metrics that both sides measured, by `SECTION` and method, paired by seed.

    Args:
        base, new: tables as `harness.gate.measured.measured` returns.
        rules: the metrics that are judged, with tolerances. Other metrics are ignored.
    """
    keys = [*SECTION, "method"]
    theirs, ours = (_by_key(side, keys) for side in (base, new))
    ours |= _renamed(theirs, ours)
    double = {key for side in (theirs, ours) for key, cells in side.items() if cells["params"].nunique() > 1}
    drafts = []
    for key in (key for key in theirs if key in ours and key not in double):
        sides = theirs[key], ours[key]
        machines = {machine for side in sides for machine in side["machine"].unique()}
        before, after = (_by_metric(side) for side in sides)
        for rule in rules:
            of_rule = before.get(rule.metric, {}), after.get(rule.metric, {})
            drafts.append((key, rule, *_paired(*of_rule, machines if rule.metric in COSTS else set())))
    tested = sum(len(pairs) > 1 and not _same(pairs) for _, _, pairs, _ in drafts)
    lines = []
    for key, rule, pairs, note in drafts:
        names = _task_text(key), str(key[-1]), rule.metric
        if len(pairs):
            lines.append(_judged(names, rule, pairs, note, FALSE_ALARMS / max(1, tested)))
        elif note:
            lines.append(Line(*names, "not compared", note, rule))
    for key in theirs:
        if key in double & ours.keys():
            note = "one side holds results of several sets of parameters under this name; use one folder for each set"
            lines.append(Line(_task_text(key), str(key[-1]), "all", "not compared", note))
        elif key in ours:
            lines += _broken(key, theirs[key], ours[key])
    return Comparison(lines, _missing(theirs, ours) + _lost(theirs, ours, rules))


def _by_key(side: pd.DataFrame, keys: Sequence[str]) -> dict[Any, pd.DataFrame]:
    """The other columns of the rows with each value of the keys."""
    grouped = side.drop(columns=list(keys)).groupby([side[name] for name in keys], dropna=False)
    return dict(list(grouped))


def _renamed(theirs: Mapping[Any, pd.DataFrame], ours: Mapping[Any, pd.DataFrame]) -> dict[Any, pd.DataFrame]:
    """Cells of NEW under BASE's name for the same parameters, if NEW has no cell with that name."""
    same: dict[Any, pd.DataFrame] = {}
    left = {(*key[:-1], key[-1].partition("[")[0], cells["params"].iloc[0]): cells for key, cells in ours.items()}
    for key, cells in theirs.items():
        cells_of_ours = left.get((*key[:-1], key[-1].partition("[")[0], cells["params"].iloc[0]))
        if key not in ours and cells_of_ours is not None:
            same[key] = cells_of_ours
    return same


def _task_text(key: Any) -> str:
    _, label, _, _, protocol, preset, _ = key
    extra = [value for value, usual in ((protocol, "fair"), (preset, "fast")) if value != usual]
    return " ".join([label, *extra])


def _by_metric(side: pd.DataFrame) -> dict[str, dict[int, float]]:
    """The values of the seeds that ended ``ok``, by metric and seed."""
    values: dict[str, dict[int, float]] = {}
    columns = (side[name].tolist() for name in ("status", "metric", "seed", "value"))
    for status, metric, seed, value in zip(*columns, strict=True):
        if status == "ok":
            values.setdefault(metric, {})[int(seed)] = float(value)
    return values


def _paired(
    before: Mapping[int, float], after: Mapping[int, float], machines: Collection[str]
) -> tuple[np.ndarray, str]:
    """The values of the k seeds that both sides have, (k, 2), and a note on seeds or values that are missing.

    Args:
        before, after: one metric's values of BASE and NEW, by seed.
        machines: where both sides were measured, if the metric depends on the machine.
    """
    seeds = sorted(before.keys() & after.keys())
    pairs = np.array([[before[seed], after[seed]] for seed in seeds], dtype=float).reshape(-1, 2)
    if len(pairs) and (len(machines) > 1 or "several" in machines):
        return np.empty((0, 2)), f"measured on other machines: {' and '.join(sorted(machines))}"
    if len(before) and not len(pairs):
        return pairs, "no seed in common" if len(after) else "NEW has no such value"
    gone = len(before) - len(pairs)
    return pairs, f"{gone} of BASE's {len(before)} seeds are not in NEW" if gone else ""


def _same(pairs: np.ndarray) -> bool:
    return bool(np.abs(pairs[:, 1] - pairs[:, 0]).max(initial=0) <= EQUAL)


def _judged(names: tuple[str, str, str], rule: Rule, pairs: np.ndarray, note: str, level: float) -> Line:
    """The line of the pairs. The t-interval of the mean difference, one-sided at ``level``, is compared with the
    tolerance."""
    from scipy.special import stdtrit

    before, after = (float(mean) for mean in pairs.mean(0))
    k = len(pairs)
    differences = pairs[:, 1] - pairs[:, 0]
    if rule.relative:
        if not before and not _same(pairs):
            return Line(*names, "not compared", "BASE is 0: no relative change", rule, before, after, seeds=k)
        differences = differences / (abs(before) or 1.0)
    mean = float(differences.mean())
    half = float(stdtrit(k - 1, 1 - level) * differences.std(ddof=1) / math.sqrt(k)) if k > 1 else 0.0
    low, high = (mean - half, mean + half) if k > 1 else (None, None)
    best, worst = (mean + half, mean - half) if rule.higher_is_better else (-(mean - half), -(mean + half))
    verdict: Verdict
    if _same(pairs) or (rule.metric in COSTS and np.allclose(pairs[:, 0], pairs[:, 1], rtol=ROUNDED)):
        verdict = "same"
    elif rule.metric.endswith("_seconds") and max(before, after) < NOISE_SECONDS:
        verdict = "no worse"
        note = f"under {1000 * NOISE_SECONDS:g} ms"
    elif best < -rule.tolerance:
        verdict = "worse"
    elif worst > 0:
        verdict = "better"
    elif worst >= -rule.tolerance:
        verdict = "no worse"
    else:
        verdict = "undecided"
        note = "; ".join(sentence for sentence in (note, "more seeds would decide") if sentence)
    if k == 1 and verdict != "same":
        note = note or "one seed gives no interval, so the difference alone is judged"
    return Line(*names, verdict, note, rule, before, after, mean, low, high, k)


def _broken(key: Any, base: pd.DataFrame, new: pd.DataFrame) -> list[Line]:
    """A line for the seeds that ended ``ok`` in BASE and not in NEW; no line if there is no such seed."""
    failed = new["status"] != "ok"
    if not failed.any():
        return []
    well = set(base.loc[base["status"] == "ok", "seed"])
    bad = new[failed & new["seed"].isin(well)]
    if bad.empty:
        return []
    first = bad.iloc[0]
    reason = (str(first["error"] or "").splitlines() or [""])[0]
    note = f"{first['status']} in {len(bad)} of {len(well)} seeds that were ok" + (f": {reason}" if reason else "")
    return [Line(_task_text(key), str(key[-1]), "status", "worse", note, seeds=len(bad))]


def _lost(theirs: Mapping[Any, pd.DataFrame], ours: Mapping[Any, pd.DataFrame], rules: Sequence[Rule]) -> list[str]:
    """One text per method and task that both sides have: the seeds and judged metrics that NEW lacks."""
    lost = []
    for key in theirs:
        if key not in ours:
            continue
        well = theirs[key]["status"] == "ok"
        seeds, metrics = (
            set(theirs[key].loc[well, name].unique()) - set(ours[key][name].unique()) for name in ("seed", "metric")
        )
        judged = [rule.metric for rule in rules if rule.metric in metrics]
        parts = [f"seed {', '.join(map(str, sorted(seeds)))}"] * bool(seeds)
        parts += judged * bool(ours[key]["metric"].notna().any())
        if parts:
            lost.append(f"{_task_text(key)} × {key[-1]} ({'; '.join(parts)})")
    return lost


def _missing(theirs: dict[Any, Any], ours: dict[Any, Any]) -> list[str]:
    """One text per method and task that NEW lacks, with a note if NEW has other task parameters or data."""
    missing = []
    named = {(key[1], key[-1], *key[4:6]) for key in ours}
    for key in theirs:
        if key not in ours:
            other = (key[1], key[-1], *key[4:6]) in named
            missing.append(f"{_task_text(key)} × {key[-1]}" + (" (there with other task parameters or data)" * other))
    return missing
