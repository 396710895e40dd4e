"""The paper's printed numbers, for comparison with measured numbers."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.interfaces.spec import parse_term

METRICS = {
    "detection_accuracy": "detection_accuracy_pct",
    "accuracy": "accuracy_pct",
    "score_seconds": "seconds",
    "class_detection_auc": "class_detection_auc",
    "class_detection_recall": "class_detection_recall",
    "class_detection_recall_absolute": "class_detection_recall",
}
ABSOLUTE = "class_detection_recall_absolute"
"""The recall that was published for influence functions: ranked by absolute influence. The AUC uses the sign."""
GLUE = {"glue_qnli": "QNLI", "glue_sst2": "SST-2", "glue_qqp": "QQP", "glue_mrpc": "MRPC"}
"""Figure 3's panels, in its order."""
PROMPTS = {
    "prompts_sentences": "sentence_transformations",
    "prompts_math": "math_without_reasoning",
    "prompts_math_reasoning": "math_with_reasoning",
}
"""Table 3's names of the prompt sets."""
BUDGETS = {
    **{"moons": 0.1, "cifar10n": 0.05, "cifar100n": 0.05, "imagenet_subset": 0.05},
    **dict.fromkeys(GLUE, 0.3),
    **dict.fromkeys(PROMPTS, 0.0),
}
"""Share of samples that the paper removed, by task."""
OF_DATA = frozenset({"spread", "n_train", "rate"})
"""Task parameters that change the training data."""

COMPLEXITY = {
    "exact_hessian": ("Hessian-based", "O(nv³)"),
    "lissa": ("Hessian-based", "O(nvp)"),
    "datainf": ("Hessian-based", "O(nvp)"),
    "self_lissa": ("self-influence", "O(np)"),
    "self_datainf": ("self-influence", "O(np)"),
    "gradient_tracing": ("Hessian-free", "O(nvp)"),
    **dict.fromkeys(("outlier_l1", "outlier_l2", "outlier_iforest"), ("Hessian-free", "O(np)")),
}
"""Table 6: kind and time complexity as printed, by method."""


@dataclass(frozen=True)
class Published:
    """One printed number, in per cent or seconds (class detection: a fraction), with the digits that were printed."""

    table: str
    text: str
    std: str

    @property
    def value(self) -> float:
        return float(self.text)

    def __str__(self) -> str:
        return f"{self.text} ± {self.std}" if self.std else self.text


@functools.lru_cache
def _numbers() -> dict[tuple[str, str, str, str, str], Published]:
    numbers: dict[tuple[str, str, str, str, str], Published] = {}
    with (Path(__file__).parent / "published_numbers.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["table"], row["task"], row["setting"], row["method"], row["metric"])
            numbers[key] = Published(row["table"], row["value"], row["std"])
    return numbers


def printed(table: str, task: str, setting: str, method_spec: str, metric: str) -> Published | None:
    """The number printed in a table, or None.

    Args:
        table: the table's number. For Table 2 the numbers of Table 4 are used, because Table 4 adds the deviations.
        setting: the label set, such as ``worst``; empty for tasks with a single label set.
        method_spec: the method as the user named it. A method with changed parameters has no printed number.
        metric: a key of `METRICS`.
    """
    by_sign = {"class_detection_recall": method_spec != "outlier_iforest", ABSOLUTE: method_spec == "outlier_iforest"}
    if by_sign.get(metric, False):  # the paper prints one recall per method
        return None
    return _numbers().get(
        ("4" if table == "2" else table, PROMPTS.get(task, task), setting, method_spec, METRICS.get(metric, ""))
    )


def setting_of(task: str, params: Mapping[str, Any]) -> str:
    """Which of a table's columns a task with these parameters belongs to."""
    if task == "imagenet_subset":
        return "flip40" if params.get("flip") == 0.4 else "other"
    return str(params.get("noise", ""))


def same_data(task_spec: str) -> bool:
    """Whether a task as the user named it has the paper's data. Other data have no printed numbers."""
    given = parse_term(task_spec).params
    return not any(given[name] != "none" for name in OF_DATA & given.keys())


def published(task: str, task_params: str, method_spec: str, metric: str) -> Published | None:
    """The printed number of the paper's method comparison for a cell, or None.

    Args:
        task: the task's name.
        task_params: the task's parameters as JSON text. With another budget than the paper's, the result is None.
        method_spec, metric: as in `printed`.
    """
    params = json.loads(task_params)
    if params.get("budget", BUDGETS.get(task)) != BUDGETS.get(task):
        return None
    table = table_of(task, params)
    setting = "" if table == "1" else setting_of(task, params)
    return printed(table, task, setting, method_spec, metric)


def table_of(task: str, params: Mapping[str, Any]) -> str:
    """The table that compares methods on such a task."""
    tables = {"moons": "1", "imagenet_subset": "8", **dict.fromkeys(PROMPTS, "3")}
    return tables.get(task, "9" if params.get("model") == "resnet18" else "4")
