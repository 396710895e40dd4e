"""What `find` finds: ranked suspects, the number of wrong labels, pairs of classes, duplicates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from harness.finding.comparing import Compared
    from harness.interfaces.own_data import OwnData

ADDED = ("given", "suggested", "probability", "score", "probably_wrong")
"""The columns that `find` adds to the user's own columns, in order."""


def free(name: str, taken: Collection[str]) -> str:
    """The name, with ``_found`` after it as often as the name is taken."""
    while name in taken:
        name = f"{name}_found"
    return name


@dataclass(frozen=True, eq=False)
class Found:
    """The result of `harness.finding.find.find`.

    Args:
        what: the data, as the user named it.
        classes: the classes' names.
        counts: how many samples have each given class.
        ranked: all samples, the probably wrong ones first and then by score, with the columns `ADDED`: the given label,
            the suggested label and its probability, the score (higher = more suspicious), and whether the label is
            probably wrong. The index is the row number in the data, from 0.
        columns: the user's own columns of the same samples.
        positions: the position of each row of ``ranked`` among the training samples.
        estimated, low, high: how many labels are wrong: the estimate and its bounds, in samples.
        method: the spec of the method that ranks and flags.
        counter: the spec of the method that estimates the number.
        agreement: the share of samples whose out-of-sample prediction is the given label.
        notes: how data and features were made, one sentence each.
        pairs: one row per pair of classes: given, suggested, how many are probably wrong, their share of the class.
        duplicates: one row per sample that has a duplicate: its row, set, kind (exact or near), given label, and
            whether the labels of the set differ.
        compared: detectors compared on planted errors; None if not asked for.
        seconds: what each stage took.
        task: the task that read the data.
    """

    what: str
    classes: list[str]
    counts: list[int]
    ranked: pd.DataFrame
    columns: pd.DataFrame
    positions: Any
    estimated: float
    low: float
    high: float
    method: str
    counter: str
    agreement: float
    notes: list[str]
    pairs: pd.DataFrame
    duplicates: pd.DataFrame
    compared: Compared | None
    seconds: dict[str, float] = field(default_factory=dict)
    task: OwnData | None = None

    @property
    def n(self) -> int:
        """Number of samples with a label."""
        return len(self.ranked)

    @property
    def wrong(self) -> pd.DataFrame:
        """The samples whose labels are probably wrong."""
        return self.ranked[self.ranked["probably_wrong"]]

    def by_position(self) -> tuple[np.ndarray, list[str]]:
        """Which training samples are probably wrong, (n,) bool, and the suggested label of each training sample."""
        wrong = np.empty(self.n, dtype=bool)
        wrong[self.positions] = self.ranked["probably_wrong"].to_numpy()
        suggested = np.empty(self.n, dtype=object)
        suggested[self.positions] = self.ranked["suggested"].to_numpy()
        return wrong, suggested.tolist()

    def frame(self) -> pd.DataFrame:
        """All samples, as `table`, with the rest in ``attrs``."""
        frame = self.table(self.n)
        frame.attrs = {
            "estimated_errors": round(self.estimated),
            "low": round(self.low),
            "high": round(self.high),
            "method": self.method,
            "pairs": self.pairs.to_dict("records"),
            "duplicates": self.duplicates.to_dict("records"),
            "notes": list(self.notes),
        }
        if self.compared is not None:
            frame.attrs["compared"] = self.compared.table.to_dict("records")
            frame.attrs["expected_precision"] = list(self.compared.precision)
        return frame

    def table(self, top: int | None = None) -> pd.DataFrame:
        """The user's own columns, then `ADDED`; an added column whose name the user has ends with ``_found``.

        Args:
            top: how many samples; None for the probably wrong ones.
        """
        count = len(self.wrong) if top is None else top
        taken = set(map(str, self.columns.columns))
        added = self.ranked.head(count).rename(columns={name: free(name, taken) for name in ADDED})
        return self.columns.head(count).join(added)
