"""The numbers that README.md of this folder quotes, from the study's records, whatever commit computed them.

    python docs/results/probe/findings.py OUT >docs/results/probe/findings.md

Gains are in points of test accuracy, with the half-width of Student's paired 95 % interval over seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from harness.results.folder import Results
from harness.results.statistics import paired_difference

SHOWN = (
    *("oracle", "random", "clean_probe", "ekfac_influence", "exact_hessian", "trak", "datainf", "self_confidence"),
    *("normalized_margin", "aum", "confident_learning", "outlier_l2", "outlier_iforest"),
)
PAIRS = (
    *(("ekfac_influence", "oracle"), ("exact_hessian", "oracle"), ("self_confidence", "oracle")),
    *(("ekfac_influence", "clean_probe"), ("exact_hessian", "clean_probe"), ("self_confidence", "random")),
    ("outlier_l2", "self_confidence"),
)
CONTROLS = ("oracle", "random", "clean_probe", "none")
DETECTORS = 0.8
"""Detectors are the methods with a mean AUROC above this number."""


def main(out: str) -> None:
    cells = gains(Results.read(out).frame)
    for noise, of_noise in cells.groupby("noise"):
        for repair, part in of_noise.groupby("repair"):
            base = part.drop_duplicates("seed")["accuracy_base"]
            print(f"# {noise}, {repair}: {part['seed'].nunique()} seeds, untrimmed {100 * base.mean():.1f} %\n")
            wide = part.pivot_table(index=["method", "seed"], columns="budget", values="accuracy_gain")
            alone = {name: pd.DataFrame(wide.loc[name]) for name in SHOWN if name in wide.index}
            print(_table(alone))
            pairs = {f"{one} − {other}": pd.DataFrame(wide.loc[one] - wide.loc[other]) for one, other in PAIRS}
            print(_table(pairs))
            if repair == "remove":
                print(correlations(part))


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of the convex head on images of 128 pixels in the protocol `fair`."""
    frame = frame[(frame["protocol"] == "fair") & (frame["status"] == "ok") & (frame["task"] == "cifar10n")]
    wide = frame.pivot_table(index=["method", "method_spec", "task_params", "seed"], columns="metric", values="value")
    wide = wide.reset_index()
    params = wide["task_params"].map(json.loads)
    for name, usual in (("noise", None), ("budget", None), ("repair", "remove"), ("width", None), ("pixels", 128)):
        wide[name] = [given.get(name, usual) for given in params]
    plain = (wide["method"] == wide["method_spec"]) & ~wide["width"].astype(bool) & (wide["pixels"] == 128)
    return wide[plain]


def _table(rows: Mapping[str, pd.DataFrame]) -> str:
    """One line per row, one column per budget; each row has one line per seed."""
    budgets = next(iter(rows.values())).columns
    head = " | ".join(f"{100 * budget:g} %" for budget in budgets)
    lines = [f"| | {head} |", "| --- |" + " ---: |" * len(budgets)]
    for name, values in rows.items():
        cells = [_gain(values[budget].dropna().to_numpy()) for budget in budgets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _gain(values: np.ndarray) -> str:
    if not len(values):
        return "—"
    found = paired_difference(values, np.zeros(len(values)))
    half = "" if found.high is None else f" ± {100 * (found.high - found.mean):.2f}"
    return f"{100 * found.mean:+.2f}{half}"


def correlations(part: pd.DataFrame) -> str:
    """Rank correlation of mean AUROC with mean gain, by budget, among the detectors that have all seeds."""
    seeds = part.groupby("method")["seed"].transform("nunique")
    detectors = part[~part["method"].isin(CONTROLS) & (seeds == part["seed"].nunique())]
    of_methods = detectors.groupby(["method", "budget"])[["auroc", "accuracy_gain"]].mean()
    told = []
    for budget, here in of_methods.groupby("budget"):
        good = here[here["auroc"] > DETECTORS]
        told.append(f"{100 * float(str(budget)):g} %: {spearmanr(good['auroc'], good['accuracy_gain']).statistic:+.2f}")
    aurocs = of_methods.groupby("method")["auroc"].mean().sort_values(ascending=False)
    return (
        f"Rank correlation of AUROC with the gain, {len(good)} detectors of AUROC > {DETECTORS}: {', '.join(told)}.\n\n"
        f"AUROC: {', '.join(f'{name} {value:.3f}' for name, value in aurocs.items())}.\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
