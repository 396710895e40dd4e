"""What several detectors take from class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from harness.interfaces.view import View

Sample = Literal["in_sample", "out_of_sample"]
"""``in_sample``: the trained model's own probabilities. ``out_of_sample``: cross-validated ones."""


def probs_of(view: View, sample: Sample) -> np.ndarray:
    """The class probabilities that ``sample`` selects, (n, c) float64."""
    return view.probs if sample == "in_sample" else view.out_of_sample_probs


def word_for(sample: Sample) -> str:
    """The entry of ``uses`` for these probabilities."""
    return "probs" if sample == "in_sample" else "out-of-sample probabilities"


def margins(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The given label's value minus the largest value of another class, (n,).

    Args:
        values: logits or probabilities, (n, c).
        labels: (n,).
    """
    rows = np.arange(len(labels))
    others = values.copy()
    others[rows, labels] = -np.inf
    return np.asarray(values[rows, labels] - others.max(1))
