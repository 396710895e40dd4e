"""The numbers that README.md of this folder quotes, from the study's records, whatever commit computed them.

    PYTHONPATH=docs/results python docs/results/attribution/findings.py OUT >docs/results/attribution/findings.md

Intervals are Student's 95 % intervals over seeds.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from study_numbers import by_seed, interval

from harness.results.folder import Results

CHANGES = (
    ("exact_hessian[damping=penalty]", "exact_hessian"),
    ("ekfac_influence[damping=penalty]", "ekfac_influence"),
    ("lissa[damping=penalty]", "lissa"),
    ("datainf[damping=penalty]", "datainf"),
    *(
        (name, f"{name}[layers=last]")
        for name in ("exact_hessian", "lissa", "datainf", "gradient_tracing", "tracin_cp")
    ),
    ("ekfac_influence[layers=all]", "ekfac_influence"),
    ("trak[layers=all]", "trak"),
    ("trak[n_models=10]", "trak"),
    ("datamodels[n_models=1000]", "datamodels"),
    ("tracin_cp", "gradient_tracing"),
    ("gradient_tracing[similarity=cosine]", "gradient_tracing"),
    ("representation_similarity", "representation_similarity[signed=no]"),
)
"""Pairs of methods that differ in one thing."""

SELF = {
    "self_influence": "exact_hessian",
    "self_lissa": "lissa",
    "self_datainf": "datainf",
    "ekfac_self_influence": "ekfac_influence",
    "ekfac_self_influence[layers=all]": "ekfac_influence[layers=all]",
    "tracin_self": "tracin_cp",
    "outlier_l2": "gradient_tracing",
    "representer": "representer",
}
"""Scores of a sample on itself, each with the attribution that it is made of."""


def main(out: str) -> None:
    frame = Results.read(out).frame
    frame = frame[frame["status"] == "ok"].copy()
    frame["budget"] = [json.loads(params).get("budget") for params in frame["task_params"]]
    attributed = frame[frame["task"].str.startswith("lds_")]
    for task, group in attributed.groupby("task"):
        once = group[group["budget"] == group["budget"].max()]
        scores = by_seed(once, "lds")
        print(f"# {task}: {len(scores)} seeds\n")
        ceiling = by_seed(once, "lds_ceiling").mean(axis=1)
        truth = by_seed(once, "truth_seconds").median(axis=1).median()
        accuracy = by_seed(once, "accuracy").mean(axis=1)
        print(
            f"- ceiling {interval(ceiling, 3)}; a perfect attribution would have about "
            f"{np.sqrt(2 * ceiling.mean() / (1 + ceiling.mean())):.3f}; the truth took {truth:.1f} s; test accuracy "
            f"{accuracy.mean():.3f}"
        )
        for spec in scores.mean().sort_values(ascending=False).index:
            print(f"- LDS of {spec}: {interval(scores[spec], 3)}")
        print()
        for changed, plain in CHANGES:
            if {changed, plain} <= set(scores):
                print(f"- {changed} less {plain}: {interval(scores[changed] - scores[plain], 3, sign=True)}")
        classes = by_seed(once, "class_detection_auc")
        print(f"- LDS and class detection: {_agreement(scores, classes)}")
        for budget, part in group.groupby("budget"):
            flips = by_seed(part, "flips")
            if flips.size:
                print(f"- LDS and flips at {budget:g}: {_agreement(scores, flips)}")
                print(f"- LDS and rises of the loss at {budget:g}: {_agreement(scores, by_seed(part, 'loss_rise'))}")
        print()
        detected = by_seed(frame[frame["task"] == task.removeprefix("lds_")], "auroc")
        if detected.size:
            _detection(scores, detected)


def _detection(scores: pd.DataFrame, detected: pd.DataFrame) -> None:
    """How far the detection of wrong labels follows attribution: by the same method, and on the sample itself."""
    print(f"- LDS and AUROC of detection by the same method: {_agreement(scores, detected)}")
    names = [name for name, of in SELF.items() if name in detected and of in scores]
    renamed = scores[[SELF[name] for name in names]].set_axis(names, axis=1)
    print(f"- LDS and AUROC of detection by the sample's score on itself: {_agreement(renamed, detected[names])}")
    for name in names:
        print(f"- {name}: AUROC {interval(detected[name], 3)}; LDS of {SELF[name]} {interval(renamed[name], 3)}")
    print()


def _agreement(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Spearman's correlation over methods, as a mean over seeds with its interval."""
    methods = [name for name in one if name in other and not name.startswith("random")]
    seeds = one.index.intersection(other.index)
    pairs = [(one.loc[seed, methods], other.loc[seed, methods]) for seed in seeds]
    known = [spearmanr(*pair).statistic for pair in pairs if min(side.nunique() for side in pair) > 1]
    return f"Spearman {interval(known, 2)} over {len(methods)} methods" if known else "no differences"


if __name__ == "__main__":
    main(sys.argv[1])
