"""Baseline files: results in a small JSON file that can be committed and read as a diff."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.records.schema import HUGE, LONGEST_NAME, Damaged, parsed
from harness.selection.plan import PRESET_ALIASES

if TYPE_CHECKING:
    import pandas as pd

SECTION = ["task", "task_spec", "task_params", "data", "protocol", "preset"]
COLUMNS = [*SECTION, "method", "params", "seed", "status", "error", "machine", "metric", "value"]
"""Columns of the table that is compared, which has one row per cell and metric.

``method`` is the method's spec. ``params`` holds all parameters of the method as JSON.
"""

FORMAT = "influence-harness-baseline"
VERSION = 1
DIGITS = 6
"""Decimals of a metric."""
COST_DIGITS = 3
"""Significant digits of a cost."""


def write_text(rows: pd.DataFrame, made: Mapping[str, Any]) -> str:
    """A baseline's text, sorted: one line per metric, with the metric's values by seed.

    Args:
        rows: a table as `measured` returns.
        made: where the numbers come from (provenance), JSON-ready.
    """
    sections = []
    for values, section in rows.groupby(SECTION, sort=True, dropna=False):
        described = dict(zip(SECTION, values, strict=True))
        described["task_params"] = json.loads(str(described["task_params"]))
        machines = sorted(set(section["machine"]))
        methods: dict[str, dict[str, dict[str, Any]]] = {}
        for row in section.sort_values(["method", "metric", "seed"]).to_dict("records"):
            of_method = methods.setdefault(row["method"], {"params": json.loads(row["params"])})
            if of_method["params"] != json.loads(row["params"]):
                raise RequestError(
                    f"{row['method']} on {row['task_spec']} has results with two sets of parameters, perhaps as a "
                    "default changed; write the baseline from a folder with the results of one set"
                )
            if row["status"] != "ok":
                of_method.setdefault("status", {})[str(row["seed"])] = row["status"]
            else:
                of_method.setdefault(row["metric"], {})[str(row["seed"])] = _short(row["metric"], row["value"])
        described["machine"] = machines[0] if len(machines) == 1 else "several"
        sections.append({**described, "methods": methods})
    text = json.dumps({FORMAT: VERSION, "made": dict(made), "sections": sections}, indent=1, ensure_ascii=False)
    innermost = re.compile(r"\{\s*([^{}]*?)\s*\}")
    return innermost.sub(lambda braces: "{" + re.sub(r"\s*\n\s*", " ", braces[1]) + "}", text) + "\n"


def _short(metric: str, value: float) -> float:
    cost = metric.endswith(("_seconds", "_mib"))
    return float(f"{value:.{COST_DIGITS}g}") if cost else round(float(value), DIGITS)


def is_baseline(path: str | Path) -> bool:
    """Whether a file says that it is a baseline."""
    try:
        with open(path, encoding="utf-8") as file:
            return FORMAT in file.read(200)
    except (OSError, UnicodeDecodeError):
        return False


def read_baseline(path: str | Path) -> pd.DataFrame:
    """The rows of a baseline file, as a table like that of `measured`.

    Raises:
        RequestError: the file is damaged, is no baseline, or has another version than `VERSION`.
    """
    import pandas as pd

    try:
        content = parsed(Path(path).read_text(encoding="utf-8"))
        if content[FORMAT] != VERSION:
            raise RequestError(f"{path} is a baseline of version {content[FORMAT]}; this harness reads {VERSION}")
        rows = [row for section in content["sections"] for row in _rows(section)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} is not a readable baseline ({type(error).__name__}: {error})") from error
    return pd.DataFrame(rows, columns=COLUMNS)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance that a readable baseline file states for its numbers."""
    made = parsed(Path(path).read_text(encoding="utf-8")).get("made", {})
    return dict(made) if isinstance(made, dict) else {}


def _rows(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    preset = str(section["preset"])
    section = {"task_spec": section.get("task_label"), **section, "preset": PRESET_ALIASES.get(preset, preset)}
    shared = {name: str(section[name]) for name in ("task", "task_spec", "data", "protocol", "preset", "machine")}
    if any(len(name) > LONGEST_NAME for name in (*shared.values(), *map(str, section["methods"]))):
        raise Damaged(f"a name of more than {LONGEST_NAME:,} characters")
    shared["task_params"] = json.dumps(section["task_params"], sort_keys=True)
    rows = []
    for method, metrics in section["methods"].items():
        for metric, values in metrics.items():
            for seed, value in values.items() if metric != "params" else ():
                params = json.dumps(metrics["params"], sort_keys=True)
                row = {**shared, "method": str(method), "params": params, "seed": int(seed), "error": ""}
                if metric == "status":
                    rows.append({**row, "status": str(value), "metric": None, "value": None})
                else:
                    rows.append({**row, "status": "ok", "metric": str(metric), "value": _number(value)})
    return rows


def _number(value: Any) -> float:
    if type(value) not in (int, float) or (math.isfinite(value) and abs(value) >= HUGE):
        raise Damaged(f"{str(value)[:40]} is no number to compare")
    return float(value)
