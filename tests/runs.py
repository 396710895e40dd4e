"""Small runs, for tests of the runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import harness
from harness.records.store import Store

FAST = "outlier_l2,self_confidence,random,none"


def run(out: Path, methods: str = FAST, tasks: str = "moons", seeds: object = 1, **options: object) -> pd.DataFrame:
    return harness.run(methods, tasks, seeds, preset="smoke", out=out, **options)  # type: ignore[arg-type]


def scores(out: Path) -> dict[str, np.ndarray]:
    return {record.key: arrays["scores"] for record, arrays in Store(out).records()}
