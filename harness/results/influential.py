"""The training samples that one method finds most and least influential for a test sample, with their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.records.store import Record
from harness.results.folder import Results
from harness.results.reload import known_task, other_data, texts_again
from harness.results.suspects import Chosen
from harness.running.trimming import tie_seed


@dataclass(frozen=True)
class Attribution:
    """The numbers of one method on one seed of an attribution task.

    Args:
        about: the cell's record, by field.
        harm: how much each training sample harms each test sample, (n_test, n_train).
        train_classes, test_classes: (n_train,), (n_test,).
        class_names: the names of all classes; empty if the names are not known.
    """

    about: Mapping[str, Any]
    harm: np.ndarray
    train_classes: np.ndarray
    test_classes: np.ndarray
    class_names: Sequence[str] = ()

    @classmethod
    def of(cls, record: Any, arrays: Mapping[str, np.ndarray], class_names: Sequence[str] = ()) -> Attribution:
        """From a stored record and its arrays."""
        classes = arrays["train_classes"], arrays["test_classes"]
        return cls(vars(record), arrays["attribution"], *classes, class_names)


def attributions(results: Results) -> list[Attribution]:
    """The first seed's attributions of every method on every attribution task, stale ones left out.

    Raises:
        RequestError: the folder holds no attributions.
    """
    first: dict[tuple[str, ...], Record] = {}
    for record in results.records:
        if record.attributes and record.key not in results.stale:
            cell = (record.task, record.task_params, record.protocol, record.preset)
            of_method = tuple(map(str, (*cell, record.method, record.method_params)))
            if of_method not in first or record.seed < first[of_method].seed:
                first[of_method] = record
    read = [(record, results.arrays(record)) for record in first.values()]
    attributions = [Attribution.of(record, arrays, _class_names(record)) for record, arrays in read if arrays]
    if not attributions:
        out = results.path
        raise RequestError(f"{out} holds no attributions; `run --tasks 'prompts_*,lds_*' --out {out}` brings some")
    return attributions


def _class_names(record: Record) -> Sequence[str]:
    """The names of the record's classes. Empty if the task or its data is not available."""
    task = known_task(record)
    try:
        return () if task is None else task.class_names() or ()
    except RequestError:
        return ()


def influential(chosen: Chosen, tests: Sequence[int], top: int) -> str:
    """The test samples, and for each the training samples that help it most and least, with texts if they have any.

    Args:
        chosen: one method's result on an attribution task.
        tests: positions of test samples.
        top: the number of most and the number of least influential samples.

    Raises:
        RequestError: there is no such test sample, or the data is not available.
    """
    record, arrays = chosen.records[0], chosen.arrays[0]
    this = Attribution.of(record, arrays)
    missing = [test for test in tests if not 0 <= test < len(this.harm)]
    if missing:
        raise RequestError(f"--test {missing[0]} is not there; test samples are numbered 0 to {len(this.harm) - 1}")
    task = known_task(record)
    if task is None:
        raise RequestError(f"the task {record.task} is not known here; --plugin FILE brings it")
    try:
        texts = texts_again(task, record)
        train, asked = texts["train"], texts["test"][: len(this.harm)]
        if this.harm.shape != (len(asked), len(train)):
            raise other_data(record)
    except Unsupported:  # positions and classes alone
        train, asked = [""] * this.harm.shape[1], [""] * len(this.harm)
    names = task.class_names() or range(1 + max(this.train_classes.max(), this.test_classes.max()))
    drawn = np.random.default_rng(tie_seed(record.task, record.method, record.seed)).permutation(len(train))
    parts = []
    for test in tests:
        harm = np.where(np.isnan(this.harm[test]), np.inf, this.harm[test])
        order = np.lexsort((drawn, harm))  # equal values in a drawn order, not by position
        parts.append(f"Test sample {test}, class {names[this.test_classes[test]]}{_told(asked[test])}")
        for title, positions in (("most", order[:top]), ("least", order[::-1][:top])):
            lines = []
            for i in positions:
                equal = int((harm == harm[i]).sum()) - 1
                tied = f" (the same as {equal} other{'s' if equal > 1 else ''})" if equal else ""
                about = f"{i}, class {names[this.train_classes[i]]}, influence {-this.harm[test, i]:.4g}{tied}"
                lines.append(f"{about}{_told(train[i])}")
            which = f"The {title} influential training sample"
            if len(lines) > 1:
                which = f"The {len(lines)} {title} influential training samples"
            parts.append(f"{which}:\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _told(text: str) -> str:
    """A sample's text below the line that names the sample; nothing if there is no text."""
    return "".join([":" if text else "", *(f"\n    {line.strip()}" for line in text.splitlines())])
