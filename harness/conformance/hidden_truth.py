"""Checks that a method's scores do not depend on the true labels, which a task keeps hidden from methods."""

from __future__ import annotations

import numpy as np

from harness.conformance.check import CheckFailure
from harness.conformance.problem import CheckTask
from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.running.events import Finished
from harness.running.group import run_group
from harness.selection.plan import Cell, CellSpec, Group

MEND = "compute scores from the view only; clean data are in view.reference('validation') and must be named in uses"


def follows_no_truth(method: Method) -> None:
    """Run the method twice in the real runner. Only the labels that the task calls true differ between the two runs.

    Other things that a method reads are not checked, because libraries read files and settings too.

    Raises:
        CheckFailure: the scores depend on the true labels.
        Unsupported: the method cannot score the problem.
    """
    scores = _run(method, turned=False)
    if not np.array_equal(scores, _run(method, turned=True), equal_nan=True):
        raise CheckFailure("its scores change when only the true labels change, which methods must not see", MEND)


def _run(method: Method, turned: bool) -> np.ndarray:
    spec = CellSpec(CheckTask.name, (("turned", turned),), method.name, (), 0, "fair", "fast")
    for event in run_group(Group((Cell(spec, CheckTask(turned=turned), method),))):
        if isinstance(event, Finished):
            if event.record.status == "skipped":
                raise Unsupported(event.record.error)
            if event.arrays and "scores" in event.arrays:
                return event.arrays["scores"]
            raise CheckFailure(f"in the runner the method fails: {event.record.error}", "see the error")
    raise AssertionError("a cell ended without a record")
