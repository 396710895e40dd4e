"""Stored cells as comparisons need them. A report is made of many cells, so these are no DataFrames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.errors import without_controls

OF_CELL = (
    *("key", "task", "task_spec", "task_title", "task_params", "protocol", "preset", "seed", "status", "error"),
    *("method", "method_spec", "method_title", "method_params", "uses", "score_seconds", "total_seconds"),
    *("train_seconds", "cost", "n_train", "n_flagged", "n_noisy", "device_name", "health"),
)
"""The columns of the tidy table that sections use, besides metrics."""


@dataclass(frozen=True)
class MeasuredCell:
    """One stored cell."""

    about: dict[str, Any]
    """The columns `OF_CELL` of the tidy table; None where a value is missing."""
    metrics: dict[str, float]
    health: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.about["seed"])

    @property
    def ok(self) -> bool:
        return bool(self.about["status"] == "ok")

    @property
    def constant(self) -> bool:
        """Whether the base model gives every training sample the same class."""
        return self.ok and bool(self.health.get("constant_model", False))


def measured_cells(group: pd.DataFrame) -> list[MeasuredCell]:
    metrics: dict[str, dict[str, float]] = {}
    for key, metric, value in zip(group["key"], group["metric"], group["value"], strict=True):
        of_cell = metrics.setdefault(key, {})
        if isinstance(metric, str):
            of_cell.setdefault(metric, float(value))
    first = group.drop_duplicates("key")[list(OF_CELL)].astype(object)
    rows = zip(*(column for _, column in first.where(first.notna(), None).items()), strict=True)
    cells = [
        {
            name: without_controls(value) if isinstance(value, str) else value
            for name, value in zip(OF_CELL, row, strict=True)
        }
        for row in rows
    ]
    return [MeasuredCell(row, metrics[row["key"]], json.loads(row["health"] or "{}")) for row in cells]
