"""The effect of one task parameter: sections that differ in a single parameter, compared seed by seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.interfaces.spec import parse_term
from harness.results.statistics import Difference, paired_difference
from reports.comparison import Section

NOT_VARIANTS = frozenset({"noise", "budget", "retrain"})
"""Parameters that define a different experiment. Sections that differ in one of them are not compared."""
METRICS = ("accuracy_base", "accuracy", "accuracy_gain", "auroc")


def variants(compared: Sequence[Section]) -> list[tuple[Section, list[tuple[str, Section]]]]:
    """Each base section, with the sections that differ from the base in one parameter, and that parameter as text.

    If two sections differ in one parameter, the base is the section whose spec names fewer parameters.
    """
    bases = []
    for base in sorted(compared, key=lambda section: (_named(section), section.spec)):
        theirs = json.loads(base.params)
        changed = []
        for other in compared:
            if (other.task, other.protocol, other.preset) != (base.task, base.protocol, base.preset):
                continue
            params: dict[str, Any] = json.loads(other.params)
            keys = [key for key in params.keys() | theirs.keys() if params.get(key) != theirs.get(key)]
            if len(keys) == 1 and keys[0] not in NOT_VARIANTS and _named(other) > _named(base):
                changed.append((f"{keys[0]}={params.get(keys[0])}", other))
        if changed:
            bases.append((base, changed))
    return bases


def _named(section: Section) -> int:
    """How many parameters a section's spec names, without those in `NOT_VARIANTS`."""
    return len(parse_term(section.spec).params.keys() - NOT_VARIANTS)


def differences(frame: pd.DataFrame, base: Section, other: Section) -> dict[str, Difference]:
    """Paired differences other − base over the methods that both have, by metric and, for AUROC, by method.

    A metric's value of a seed is its mean over methods; the keys are those of `METRICS` and ``auroc:<method spec>``.
    """
    one, two = (_values(frame, section) for section in (base, other))
    both = one.merge(two, on=["method_spec", "seed", "metric"], suffixes=("", "_other"))
    paired = {}
    for metric, values in both.groupby("metric"):
        means = values.groupby("seed")[["value", "value_other"]].mean()
        paired[str(metric)] = paired_difference(means["value_other"].to_numpy(), means["value"].to_numpy())
    for spec, values in both[both["metric"] == "auroc"].groupby("method_spec"):
        paired[f"auroc:{spec}"] = paired_difference(values["value_other"].to_numpy(), values["value"].to_numpy())
    return paired


def _values(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    here = frame[
        (frame["task"] == section.task)
        & (frame["protocol"] == section.protocol)
        & (frame["preset"] == section.preset)
        & (frame["task_params"] == section.params)
        & frame["metric"].isin(METRICS)
    ]
    trimmed = here[here["n_flagged"] > 0]  # methods that remove no samples show no effect of trimming
    return trimmed[["method_spec", "seed", "metric", "value"]]
