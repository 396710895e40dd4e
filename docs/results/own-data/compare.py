"""`harness find` beside cleanlab's Datalab, on data whose wrong labels are known.

    python docs/results/own-data/compare.py DATA [SEEDS] [FIRST] > table.csv

DATA holds CIFAR-10 with the human labels, and GLUE's SST-2 (optional; what is missing is left out). Datalab gets the
cross-validated probabilities of the first round, which `find` starts from, too. Every row is one data set, rate
and seed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.finding.ask import FINDER, one_method
from harness.finding.find import find, task_of
from harness.finding.scoring import view_on

RATES = (0.0, 0.04, 0.08, 0.2)


def flipped(labels: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Labels of which a share has become another class, drawn uniformly."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), round(rate * len(labels)), replace=False)
    classes = np.unique(labels)
    new = labels.copy()
    for k in chosen:
        new[k] = rng.choice(classes[classes != labels[k]])
    return new


def problems(data: Path, seeds: range) -> Iterator[tuple[str, float, int, Any, np.ndarray, np.ndarray, dict[str, Any]]]:
    """Name, rate, seed, data, given labels, true labels, and parameters."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

    for load in (load_breast_cancer, load_wine, load_digits, load_iris):
        values, labels = load(return_X_y=True)
        for rate in RATES:
            for seed in seeds:
                yield load.__name__[5:], rate, seed, values, flipped(labels, rate, seed), labels, {}
    sst2 = data / "glue" / "SST-2" / "train.tsv"
    if sst2.is_file():
        table = pd.read_csv(sst2, sep="\t", quoting=3).sample(20_000, random_state=0)
        labels = table["label"].to_numpy()
        yield "sst2", 0.1, 0, table["sentence"].tolist(), flipped(labels, 0.1, 0), labels, {}
    if (data / "CIFAR-10_human.pt").is_file():
        from tasks._cifar_files import CIFAR10N, read_batches, read_human_labels

        images, clean = read_batches(data, CIFAR10N.train, CIFAR10N.label_key)
        human = read_human_labels(data / CIFAR10N.human)
        pictures = images[:5000].transpose(0, 2, 3, 1)
        for kind, key in (("aggregate", "aggre_label"), ("worst", "worse_label")):
            given = np.asarray(human[key])[:5000]
            yield f"cifar10n {kind}", float((given != clean[:5000]).mean()), 0, pictures, given, clean[:5000], {}


def measured(flagged: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of flags."""
    both = int((flagged & wrong).sum())
    return {
        "flagged": int(flagged.sum()),
        "precision": both / max(1, int(flagged.sum())),
        "recall": both / max(1, int(wrong.sum())),
        "f1": 2 * both / max(1, int(flagged.sum() + wrong.sum())),
    }


def main(data: Path, seeds: range) -> None:
    from cleanlab import Datalab

    rows = []
    for name, rate, seed, values, given, true, params in problems(data, seeds):
        wrong = given != true
        start = time.perf_counter()
        task = task_of(values, given, **params)
        finder = one_method(FINDER)
        found = find(name, task, finder, finder)
        seconds = time.perf_counter() - start
        split, _ = task.load(0)
        probs = view_on(task, split, 0).out_of_sample_probs
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            lab = Datalab(data={"labels": split.train.labels.numpy()}, label_name="labels", verbosity=0)
            lab.find_issues(pred_probs=probs, issue_types={"label": {}})
        theirs = lab.get_issues("label")["is_label_issue"].to_numpy()
        common = {"data": name, "rate": round(rate, 3), "seed": seed, "wrong": int(wrong.sum())}
        rows.append({**common, "tool": "Datalab", "estimated": int(theirs.sum()), **measured(theirs, wrong)})
        rows[-1] |= {"seconds": time.perf_counter() - start}
        ours, _ = found.by_position()
        rows.append({**common, "tool": "find", "estimated": round(found.estimated), **measured(ours, wrong)})
        rows[-1] |= {"low": found.low, "high": found.high, "seconds": seconds}
        print(rows[-2], rows[-1], sep="\n", file=sys.stderr)
    pd.DataFrame(rows).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    count, first = int(sys.argv[2]) if len(sys.argv) > 2 else 5, int(sys.argv[3]) if len(sys.argv) > 3 else 0
    main(Path(sys.argv[1]), range(first, first + count))
