"""The tidy table: stored records as a pandas DataFrame, one row per cell and metric, or per step of a metric."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.interfaces.flags import Flags
from harness.records.store import Record
from harness.results.class_detection import class_detection
from harness.results.metrics import HIGHER_IS_BETTER, detection, of_own_flags, within_class
from harness.selection.names import method_spec, task_spec

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
    "cost",
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
    "task_spec",
    "task_title",
    "method_spec",
    "method_title",
    "slot",
    "health",
    "versions",
)


def tidy(results: Iterable[tuple[Record, Mapping[str, np.ndarray] | None]]) -> pd.DataFrame:
    """The tidy table of records with their arrays; see `harness.load_results`.

    A record with None for its arrays has damaged arrays and is left out.
    """
    import pandas as pd

    rows = [row for record, arrays in results if arrays is not None for row in _rows(record, arrays)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"step": "Int64"})


def cell_metrics(record: Record, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """A record's metrics: what was measured on models, and detection metrics where the truth is known."""
    metrics: dict[str, float] = {}
    if "attribution" in arrays:
        metrics |= class_detection(arrays["attribution"], arrays["train_classes"], arrays["test_classes"])
    if "noisy" in arrays:
        metrics |= detection(arrays["scores"], arrays["flagged"], arrays["noisy"])
        if "labels" in arrays:
            metrics |= within_class(arrays["scores"], arrays["noisy"], arrays["labels"])
        if "own_flagged" in arrays:
            metrics |= of_own_flags(Flags(arrays["own_flagged"], float(arrays["estimated_errors"])), arrays["noisy"])
    return metrics | record.metrics


def _rows(record: Record, arrays: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    base = {name: getattr(record, name) for name in COLUMNS if hasattr(record, name)}
    base |= {
        "method_spec": method_spec(record.method, record.method_params, record.protocol, record.task)
        or record.method_spec,
        "task_spec": task_spec(record.task, record.task_params, record.protocol, record.preset) or record.task_spec,
        "task_params": json.dumps(record.task_params, sort_keys=True),
        "method_params": json.dumps(record.method_params, sort_keys=True),
        "uses": ";".join(record.uses),
        "health": json.dumps(record.health, sort_keys=True),
        "cost": json.dumps(record.cost, sort_keys=True),
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
