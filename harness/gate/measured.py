"""What is compared: metrics, times and statuses of a results folder or baseline file, one row per cell and metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.gate.baseline import COLUMNS, SECTION, is_baseline, read_baseline
from harness.records.store import is_store
from harness.results.folder import Results
from harness.results.metrics import COSTS

if TYPE_CHECKING:
    import pandas as pd


def measured(path: str) -> pd.DataFrame:
    """The rows of a results folder or baseline file, with `baseline.COLUMNS`; ``method`` is the method's spec.

    A cell that did not end ``ok`` has one row without metric.

    Raises:
        RequestError: the path is neither a results folder nor a baseline file.
    """
    if is_store(path):
        return from_results(Results.read(path))
    if Path(path).is_file() and is_baseline(path):
        return read_baseline(path)
    raise RequestError(f"{path} is neither a results folder of `run` nor a file of `baseline write`")


def from_results(results: Results) -> pd.DataFrame:
    """Rows from a results folder. Costs are rows like metrics.

    Methods and tasks keep the specs from the time of their run. So results before and after a change of a default
    have the same spec and can be compared.
    """
    import pandas as pd

    records = {record.key: record for record in results.records}
    cells = results.frame.drop_duplicates("key").set_index("key")
    cells = cells.assign(
        task_spec=[records[key].task_spec for key in cells.index],
        method=[records[key].method_spec for key in cells.index],
        data=[records[key].versions.get("data", "") for key in cells.index],
        params=cells["method_params"],
        machine=cells["device_name"],
    )
    measured = results.frame.loc[results.frame["step"].isna(), ["key", "metric", "value"]]
    costs = [cells[[name]].reset_index().rename(columns={name: "value"}).assign(metric=name) for name in COSTS]
    values = pd.concat([measured, *costs]).dropna(subset=["value"])
    ok = cells.index[cells["status"] == "ok"]
    others = pd.DataFrame({"key": cells.index[cells["status"] != "ok"], "metric": None, "value": None})
    values = pd.concat([values[values["key"].isin(ok)], others.astype(object)])
    described = cells[[name for name in COLUMNS if name not in ("metric", "value")]]
    rows = described.loc[values["key"]].assign(metric=values["metric"].array, value=values["value"].array)
    return rows[COLUMNS].sort_values([*SECTION, "method", "metric", "seed"]).reset_index(drop=True)
