"""A cell between scoring and retraining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.records.store import Record
from harness.running.base_models import Base
from harness.selection.plan import Cell


@dataclass
class Scored:
    """A cell's record and arrays so far.

    Args:
        keep: the samples that are not flagged, (n,) bool; all of them on attribution tasks.
    """

    cell: Cell
    base: Base
    record: Record
    arrays: dict[str, np.ndarray]
    keep: np.ndarray
