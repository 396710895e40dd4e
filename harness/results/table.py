"""The tidy table: stored records as a pandas DataFrame, a row a cell and metric, or step of one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.store import Record, Store
from harness.results.class_detection import class_detection
from harness.results.metrics import HIGHER_IS_BETTER, detection

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

COLUMNS = (
    "key",
    "task",
    "task_params",
    "method",
    "method_params",
    "seed",
    "protocol",
    "preset",
    "status",
    "error",
    "metric",
    "step",
    "value",
    "higher_is_better",
    "train_seconds",
    "extract_seconds",
    "score_seconds",
    "total_seconds",
    "retrain_seconds",
    "peak_memory_mib",
    "n_train",
    "n_flagged",
    "n_noisy",
    "uses",
    "device",
    "device_name",
    "torch",
    "python",
    "commit",
    "utc",
    "schema",
    "task_label",
    "task_title",
    "method_label",
    "method_title",
    "slot",
    "health",
    "versions",
)


def load_results(path: str | Path) -> pd.DataFrame:
    """All readable results of a folder as a tidy table.

    Detection metrics are computed here from the raw scores. A cell without metrics (failed, skipped) has one row
    whose metric is missing. Metrics taken at every step of a training, such as ``accuracy_by_epoch``, have a row a
    step, counted from 1 in ``step``, which is missing for all others. Damaged files are left out with a warning.

    Args:
        path: a folder that ``run --out`` wrote.

    Returns:
        A DataFrame with at least the columns of `COLUMNS`; ``task_params``, ``method_params``, ``health`` and
        ``versions`` are JSON text, ``uses`` is separated by semicolons, seconds and MiB as named, values fractions.

    Raises:
        RequestError: the folder is missing or no results folder.
    """
    import pandas as pd

    store = Store(path)
    rows = [row for record, arrays in store.records() for row in _rows(record, arrays)]
    for problem in store.problems:
        warnings.warn(problem, stacklevel=2)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"step": "Int64"})


def cell_metrics(record: Record, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """A record's metrics: what was measured on models, and detection metrics where the truth is known."""
    found: dict[str, float] = {}
    if "attribution" in arrays:
        found |= class_detection(arrays["attribution"], arrays["train_classes"], arrays["test_classes"])
    if "noisy" in arrays:
        found |= detection(arrays["scores"], arrays["flagged"], arrays["noisy"])
    return found | record.metrics


def _rows(record: Record, arrays: dict[str, np.ndarray]) -> list[dict[str, object]]:
    base = {name: getattr(record, name) for name in COLUMNS if hasattr(record, name)}
    base |= {
        "task_params": json.dumps(record.task_params, sort_keys=True),
        "method_params": json.dumps(record.method_params, sort_keys=True),
        "uses": ";".join(record.uses),
        "health": json.dumps(record.health, sort_keys=True),
        "versions": json.dumps(record.versions, sort_keys=True),
        "schema": record.versions.get("schema"),
    }
    values: list[tuple[str, int | None, float]] = []
    if record.status == "ok":
        values += [(name, None, value) for name, value in cell_metrics(record, arrays).items()]
        values += [(name, step, value) for name, curve in record.curves.items() for step, value in enumerate(curve, 1)]
    if not values:
        return [{**base, "metric": None, "step": None, "value": None, "higher_is_better": None}]
    return [
        {**base, "metric": name, "step": step, "value": value, "higher_is_better": HIGHER_IS_BETTER.get(name, True)}
        for name, step, value in values
    ]
