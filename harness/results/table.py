"""The tidy table: stored records as a pandas DataFrame, one row per cell and metric, or per step of a metric."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.interfaces.flags import Flags
from harness.records.store import Record
from harness.results.class_detection import class_detection
from harness.results.lds import lds
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


MEASURES = ("metric", "step", "value", "higher_is_better")
"""The columns that differ between the rows of one cell."""

AS_JSON = ("task_params", "method_params", "health", "cost", "versions")
OF_RECORD = tuple(name for name in COLUMNS if name not in (*MEASURES, *AS_JSON, "uses", "schema"))


def tidy(results: Iterable[tuple[Record, Mapping[str, float] | None]]) -> pd.DataFrame:
    """The tidy table of records with the metrics of their scores; see `harness.load_results`.

    A record with None for its metrics has damaged scores and is left out.
    """
    import numpy as np
    import pandas as pd

    cells: list[dict[str, object]] = []
    values: list[tuple[int, str | None, int | None, float | None, bool | None]] = []
    for record, of_scores in results:
        if of_scores is None:
            continue
        measured: list[tuple[str | None, int | None, float | None]] = [*_measured(record, of_scores)]
        values += [
            (len(cells), name, step, value, None if name is None else HIGHER_IS_BETTER.get(name, True))
            for name, step, value in measured or [(None, None, None)]
        ]
        cells.append(_cell(record))
    of_cell, *measures = zip(*values, strict=True) if values else ((), (), (), (), ())
    frame = pd.DataFrame(cells, columns=[name for name in COLUMNS if name not in MEASURES])
    frame = frame.take(np.array(of_cell, dtype=np.intp)).reset_index(drop=True)
    frame = frame.assign(**{name: list(column) for name, column in zip(MEASURES, measures, strict=True)})
    return frame[list(COLUMNS)].astype({"step": "Int64"})


def detection_metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a record's arrays: of detection where the wrong labels are known, and of attribution."""
    metrics: dict[str, float] = {}
    if "attribution" in arrays:
        metrics |= class_detection(arrays["attribution"], arrays["train_classes"], arrays["test_classes"])
    if "losses" in arrays:
        metrics |= lds(arrays["attribution"], arrays["subsets"], arrays["losses"])
    if "noisy" in arrays:
        metrics |= detection(arrays["scores"], arrays["flagged"], arrays["noisy"])
        if "labels" in arrays:
            metrics |= within_class(arrays["scores"], arrays["noisy"], arrays["labels"])
        if "own_flagged" in arrays:
            metrics |= of_own_flags(Flags(arrays["own_flagged"], float(arrays["estimated_errors"])), arrays["noisy"])
    return metrics


def _measured(record: Record, of_scores: Mapping[str, float]) -> Iterator[tuple[str, int | None, float]]:
    """Name, step and value of a record's metrics."""
    if record.status == "ok":
        yield from ((name, None, value) for name, value in {**of_scores, **record.metrics}.items())
        yield from ((name, step, value) for name, curve in record.curves.items() for step, value in enumerate(curve, 1))


def _cell(record: Record) -> dict[str, object]:
    """What the table says of a record, apart from `MEASURES`."""
    written = {name: json.dumps(getattr(record, name), sort_keys=True) for name in AS_JSON}
    return (
        {name: getattr(record, name) for name in OF_RECORD}
        | written
        | {
            "method_spec": method_spec(record.method, record.method_params, record.protocol, record.task)
            or record.method_spec,
            "task_spec": task_spec(record.task, record.task_params, record.protocol, record.preset) or record.task_spec,
            "uses": ";".join(record.uses),
            "schema": record.versions.get("schema"),
        }
    )
