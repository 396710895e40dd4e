"""The picture of this page: gain in test accuracy by the share of samples that is removed.

    python docs/results/probe/figure.py OUT docs/results/probe/gains.png

OUT holds the study's records, of whatever commit.
"""

from __future__ import annotations

import json
import sys

from harness.results.folder import Results
from reports.figures.budget_curves import budget_figure

METHODS = "oracle,random,clean_probe,self_confidence,outlier_l2,exact_hessian,ekfac_influence"


def plain(params: dict[str, object]) -> bool:
    """Whether the suspects are removed, the head is convex, and the images have 128 pixels."""
    return params.get("repair", "remove") == "remove" and not params.get("width") and params.get("pixels", 128) == 128


def main(out: str, path: str) -> None:
    frame = Results.read(out).of_methods(METHODS).frame
    shown = frame["task_params"].map(lambda text: plain(json.loads(text)))
    chosen = frame[shown & (frame["protocol"] == "fair") & (frame["task"] == "cifar10n")]
    budget_figure(chosen).savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:3])
