"""Whether a method's scores follow what a task keeps apart as the truth."""

from __future__ import annotations

import numpy as np

from harness.conformance.check import CheckFailure
from harness.conformance.problem import CheckTask
from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.running.events import Finished
from harness.running.group import run_group
from harness.selection.plan import Cell, CellSpec, Group

MEND = "score from the view alone; a clean set is view.reference('validation'), and uses must say so"


def follows_no_truth(method: Method) -> None:
    """Run the method in the real runner, with everything alike except what is said to be the truth.

    What else a method reads is its own affair: libraries look up files and settings as they please.

    Raises:
        CheckFailure: the scores follow the truth.
        Unsupported: the method cannot score the problem.
    """
    scores = _run(method, turned=False)
    if not np.array_equal(scores, _run(method, turned=True), equal_nan=True):
        raise CheckFailure(
            "its scores change with what the task keeps apart as the true labels, and with nothing else changed", MEND
        )


def _run(method: Method, turned: bool) -> np.ndarray:
    spec = CellSpec(CheckTask.name, (("turned", turned),), method.name, (), 0, "fair", "fast")
    for event in run_group(Group((Cell(spec, CheckTask(turned=turned), method),))):
        if isinstance(event, Finished):
            if event.record.status == "skipped":
                raise Unsupported(event.record.error)
            if event.arrays and "scores" in event.arrays:
                return event.arrays["scores"]
            raise CheckFailure(f"in the runner it ends with: {event.record.error}", "see the error")
    raise AssertionError("a cell ended without a record")
