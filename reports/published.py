"""The paper's printed numbers, to stand beside measured ones."""

from __future__ import annotations

import csv
import functools
import json
from dataclasses import dataclass
from pathlib import Path

METRICS = {
    "detection_accuracy": "detection_accuracy_pct",
    "accuracy": "accuracy_pct",
}
MAIN_TABLES = ("1", "4")
"""Tables of the method comparison; 9 repeats 4 with another network, the rest vary one thing."""


@dataclass(frozen=True)
class Published:
    """One printed number, in per cent."""

    table: str
    value: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.std:.2f}" if self.std is not None else f"{self.value:.1f}"


@functools.lru_cache
def _numbers() -> dict[tuple[str, str, str, str], Published]:
    numbers: dict[tuple[str, str, str, str], Published] = {}
    with (Path(__file__).parent / "published_numbers.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["table"] in MAIN_TABLES:
                key = (row["task"], row["setting"], row["method"], row["metric"])
                numbers[key] = Published(row["table"], float(row["value"]), float(row["std"]) if row["std"] else None)
    return numbers


def published(task: str, task_params: str, method_label: str, metric: str) -> Published | None:
    """The printed number for a cell, or None.

    Args:
        task: the task's name.
        task_params: its parameters as JSON text; the table's setting is looked for among their values.
        method_label: the method as the user named it, so that a method with changed parameters matches nothing.
        metric: as in the tidy table.
    """
    settings = {"", *(value for value in json.loads(task_params).values() if isinstance(value, str))}
    for setting in settings:
        found = _numbers().get((task, setting, method_label, METRICS.get(metric, "")))
        if found is not None:
            return found
    return None
