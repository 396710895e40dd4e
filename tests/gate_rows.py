"""Rows of made-up measurements, for tests of the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.gate.baseline import COLUMNS
from harness.gate.verdicts import DEFAULT_RULES, parse_rule

RULES = [parse_rule(text) for text in DEFAULT_RULES]


def rows(values: dict[str, Any], method: str = "mine", task: str = "moons", **changes: Any) -> pd.DataFrame:
    """Rows of one cell: each metric's values by seed."""
    shared = {"task": task, "task_spec": task, "task_params": "{}", "data": "", "protocol": "fair", "preset": "fast",
              "method": method, "status": "ok", "error": "", "machine": "box"}  # fmt: skip
    made = [
        {**shared, "seed": seed, "metric": metric, "value": value, **changes}
        for metric, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(made, columns=COLUMNS)


A = np.array([0.91, 0.95, 0.93, 0.90, 0.94])
