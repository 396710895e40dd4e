"""The training samples that one method finds most and least influential for a test sample, with their texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError
from harness.store import Store
from harness.suspects import Found
from harness.task_data import known_task, other_data, texts_again

if TYPE_CHECKING:
    from reports.heatmaps import Attribution


def attributions(out: str, stale: Collection[str] = ()) -> list[Attribution]:
    """The first seed's attributions of every method on every attribution task of a results folder.

    Args:
        stale: keys of cells whose code has moved since; they are left out.

    Raises:
        RequestError: there is none.
    """
    from reports.heatmaps import Attribution

    first: dict[tuple[str, ...], Attribution] = {}
    for record, arrays in Store(out).records():
        if record.status == "ok" and "attribution" in arrays and record.key not in stale:
            where = (record.task, str(record.task_params), record.protocol, record.preset)
            what = (*where, record.method, str(record.method_params))
            if what not in first or record.seed < first[what].about["seed"]:
                first[what] = Attribution.of(record, arrays)
    if not first:
        raise RequestError(f"{out} holds no attributions; `run --tasks 'prompts_*' --out {out}` brings some")
    return list(first.values())


def influential(found: Found, tests: Sequence[int], top: int) -> str:
    """The test samples, and for each the training samples that help it most and least, as text.

    Args:
        found: one method's result on an attribution task.
        tests: positions of test samples.
        top: how many of each.

    Raises:
        RequestError: there is no such test sample, or the data is not at hand.
    """
    from reports.heatmaps import Attribution

    record, arrays = found.records[0], found.arrays[0]
    this = Attribution.of(record, arrays)
    missing = [test for test in tests if not 0 <= test < len(this.harm)]
    if missing:
        raise RequestError(f"--test {missing[0]} is not there; test samples are numbered 0 to {len(this.harm) - 1}")
    task = known_task(record)
    if task is None:
        raise RequestError(f"the task {record.task} is not known here; --plugin FILE brings it")
    texts = texts_again(task, record)
    train, asked = texts["train"], texts["test"]
    if this.harm.shape != (len(asked), len(train)):
        raise other_data(record)
    parts = []
    for test in tests:
        order = np.argsort(np.where(np.isnan(this.harm[test]), np.inf, this.harm[test]), kind="stable")
        parts.append(f"Test sample {test}, class {this.test_classes[test]}:\n{_indented(asked[test])}")
        for title, chosen in (("most", order[:top]), ("least", order[::-1][:top])):
            lines = [
                f"{i}, class {this.train_classes[i]}, influence {-this.harm[test, i]:.4g}:\n{_indented(train[i])}"
                for i in chosen
            ]
            parts.append(f"The {len(lines)} {title} influential training samples:\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line.strip()}" for line in text.splitlines())
