"""Data with known wrong labels, for the tests of `find`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

NAMES = np.array(["malignant", "benign"])


def cancer(rate: float = 0.08, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Breast cancer with flipped labels, and which labels are wrong."""
    values, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[np.random.default_rng(seed).choice(len(labels), round(rate * len(labels)), replace=False)] = True
    return values.assign(diagnosis=NAMES[np.where(wrong, 1 - labels, labels)]), wrong


def f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


def in_order(frame: pd.DataFrame, column: str) -> np.ndarray:
    return frame[column].sort_index().to_numpy()


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "data.csv": lambda table, path: table.to_csv(path, index=False),
    "my data, [v2].tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "data.parquet": lambda table, path: table.to_parquet(path, index=False),
    "data.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}
