"""What is compared: metrics, times and statuses of a results folder or of a baseline file, a row a cell and metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.gate.baseline import COLUMNS, SECTION, is_baseline, read_baseline
from harness.interfaces.spec import format_term, parse_term
from harness.records.store import is_store
from harness.results.metrics import COSTS

if TYPE_CHECKING:
    import pandas as pd


def measured(path: str) -> pd.DataFrame:
    """The rows of a results folder or baseline file, with `baseline.COLUMNS`; ``method`` is the method's label.

    A cell that did not end ``ok`` has one row without metric.

    Raises:
        RequestError: the path is neither.
    """
    if is_store(path):
        from harness.results.table import load_results

        return from_results(load_results(path))
    if Path(path).is_file() and is_baseline(path):
        return read_baseline(path)
    raise RequestError(f"{path} is neither a results folder of `run` nor a file of `baseline write`")


def as_asked(label: str, params: str) -> str:
    """A label with the values that its parameters were read as: ``a[x=1e-2]`` is ``a[x=0.01]``."""
    term, values = parse_term(label), json.loads(params)
    return format_term(term.pattern, {key: values.get(key, given) for key, given in term.params.items()})


def from_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows from the tidy table, costs among the metrics.

    A method is called as it was asked for, with the values of what was given: defaults may change between two results.
    """
    import pandas as pd

    cells = frame.drop_duplicates("slot")
    frame = frame[frame["step"].isna()]
    costs = [cells.assign(metric=name, value=cells[name]) for name in COSTS]
    rows = pd.concat([frame, *costs]).dropna(subset=["value"])
    rows = pd.concat([rows[rows["status"] == "ok"], cells[cells["status"] != "ok"].assign(metric=None, value=None)])
    rows = rows.assign(
        method=[as_asked(*each) for each in zip(rows["method_label"], rows["method_params"], strict=True)],
        params=rows["method_params"],
        machine=rows["device_name"],
        data=[json.loads(text).get("data", "") for text in rows["versions"]],
    )
    return rows[COLUMNS].sort_values([*SECTION, "method", "metric", "seed"]).reset_index(drop=True)
