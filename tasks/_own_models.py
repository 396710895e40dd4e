"""Which model fits a table better: softmax regression or gradient-boosted trees."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from harness.interfaces.split import Samples, Split

MOST_ROWS = 20_000
"""Rows that the choice is made on."""

FOLDS = 5


@functools.lru_cache(maxsize=4)
def chosen(split: Split) -> Literal["linear", "boosting"]:
    """Trees, if their cross-entropy on held-out labels is lower by more than its standard error; otherwise linear.

    The cross-entropies are compared sample by sample. Wrong labels raise both of them.

    Args:
        split: with `tasks._probe.Features` as inputs.
    """
    import torch

    from tasks._classifiers import Boosting
    from tasks._own_folds import folds_of
    from tasks._probe import Features, Probe

    n = len(split.train)
    rows = torch.from_numpy(np.random.default_rng(0).permutation(n)[:MOST_ROWS])
    values, labels = split.train.inputs.values[rows], split.train.labels[rows]
    fold = torch.from_numpy(folds_of(labels.numpy(), None, min(FOLDS, len(rows)), 0))
    none = split.train.inputs.images
    differences = []
    for k in range(int(fold.max()) + 1) if len(rows) < MOST_ROWS else range(1):
        train = Samples(Features(values[fold != k], none), labels[fold != k])
        test = Samples(Features(values[fold == k], none), labels[fold == k])
        part = Split(train, test, {}, split.n_classes)
        linear, trees = (
            -np.log(np.maximum(model.outputs(test).class_probs()[np.arange(len(test)), test.labels.numpy()], SMALLEST))
            for model in (Probe(None, 1e-3, None).train(part, None, 0), Boosting().train(part, None, 0))
        )
        differences.append(linear - trees)
    better = np.concatenate(differences)
    return "boosting" if better.mean() > better.std() / np.sqrt(len(better)) else "linear"


SMALLEST = 1e-3
"""Smaller probabilities are raised to this one, so that single samples cannot decide."""
