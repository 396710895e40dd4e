"""The numbers that README.md of this folder quotes, from the study's records, whatever commit computed them.

    PYTHONPATH=docs/results python docs/results/prompts/findings.py OUT >docs/results/prompts/findings.md

Intervals are Student's 95 % intervals over seeds.
"""

from __future__ import annotations

import json
import sys

from study_numbers import by_seed, interval

from harness.results.folder import Results

LAST = "layers=*.29.*"
FOREST = "outlier_iforest"
CHANGES = (
    *((f"{name}[{LAST}]", name) for name in ("gradient_tracing", "datainf")),
    *(
        (f"{FOREST}[{projection}{LAST}]", f"{FOREST}[{projection}layers=all]")
        for projection in ("", "projection=256,", "projection=none,")
    ),
    *(
        (f"{FOREST}[{projection}{layers}]", f"{FOREST}[projection=none,{layers}]")
        for layers in ("layers=all", LAST)
        for projection in ("", "projection=256,")
    ),
    ("gradient_tracing[similarity=cosine]", "gradient_tracing"),
    *((f"{name}[class_mean=yes]", name) for name in ("gradient_tracing", "datainf")),
    ("datainf", "gradient_tracing"),
    (f"{FOREST}[layers=all]", "gradient_tracing[class_mean=yes]"),
)
"""Pairs of methods that differ in one thing, and two that are compared in the text."""

METRICS = {"class_detection_auc": "AUC", "class_detection_recall": "recall"}


def main(out: str) -> None:
    frame = Results.read(out).frame
    frame = frame[frame["status"] == "ok"].copy()
    frame["padding"] = [bool(json.loads(params).get("padding", False)) for params in frame["task_params"]]
    for task, group in frame.groupby("task"):
        plain, padded = group[~group["padding"]], group[group["padding"]]
        able = {name: by_seed(plain, name)["random"] for name in ("accuracy_before", "accuracy", "loss_before", "loss")}
        print(f"# {task}: {len(able['loss'])} seeds\n")
        print(
            f"- right answers {interval(100 * able['accuracy_before'], 1)} % before fine-tuning, "
            f"{interval(100 * able['accuracy'], 1)} % after it; loss of answers {interval(able['loss_before'], 2)} and "
            f"{interval(able['loss'], 2)}"
        )
        for metric, word in METRICS.items():
            scores, with_padding = by_seed(plain, metric), by_seed(padded, metric)
            print()
            for spec in scores.mean().sort_values(ascending=False).index:
                print(f"- {word} of {spec}: {interval(scores[spec], 3)}")
            print()
            for spec in scores:
                if spec in with_padding and spec != "random":
                    difference = (with_padding[spec] - scores[spec]).dropna()
                    print(f"- {word} of {spec} with padding {interval(with_padding[spec], 3)}, less without: "
                          f"{interval(difference, 3, sign=True)}")  # fmt: skip
            print()
            for changed, other in CHANGES:
                print(f"- {word} of {changed} less {other}: {interval(scores[changed] - scores[other], 3, sign=True)}")
        print()


if __name__ == "__main__":
    main(sys.argv[1])
