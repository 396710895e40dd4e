"""The interface of a task that reads a user's own data: a table, a folder of images, arrays, or an object in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from harness.interfaces.split import Split
from harness.interfaces.task import Task

if TYPE_CHECKING:
    import pandas as pd

Cleaning = Literal["drop", "relabel", "mark"]
"""What happens to suspects when the data is written again: their rows are left out, their labels are replaced by the
suggested ones, or a column marks them."""


@dataclass(frozen=True)
class OwnData(Task):
    """A task on a user's own data. `harness.find` opens the data by the first registered task of this kind.

    Training samples are the rows that have a label, in the order of the data.
    """

    @classmethod
    @abstractmethod
    def opened(cls, data: Any, labels: str | None, ignore: Sequence[str], groups: str | None, **params: Any) -> Self:
        """The task on some data.

        Args:
            data: a path, or an object in memory.
            labels: the column of labels; None where the data says by itself which labels the samples have.
            ignore: columns that no model sees.
            groups: a column; samples with one value of the column always are in one fold.
            params: further parameters of the task.

        Raises:
            RequestError: the data cannot be read as asked.
        """

    @abstractmethod
    def columns(self) -> pd.DataFrame:
        """The user's own columns of the training samples. The index is the row number in the data, from 0."""

    @abstractmethod
    def notes(self) -> list[str]:
        """What was read, what was left out, and how features were made, one sentence each."""

    @abstractmethod
    def part(self, split: Split, rows: np.ndarray) -> Split:
        """The split with some of the training samples.

        Args:
            rows: positions among the training samples.
        """

    @abstractmethod
    def contents(self) -> list[bytes]:
        """What a training sample consists of, without its label, for the search for exact duplicates."""

    @abstractmethod
    def check_write(self, path: Path) -> None:
        """Raise a `RequestError` if the data cannot be written to the path; called before anything is computed."""

    @abstractmethod
    def write(self, path: Path, how: Cleaning, suspects: np.ndarray, suggested: Sequence[str]) -> str:
        """Write the data again, all rows and columns of it, in the format that the path's suffix names.

        Args:
            suspects: which training samples are suspects, (n,) bool.
            suggested: the suggested label of each training sample.

        Returns:
            What was written, in one sentence.

        Raises:
            RequestError: the format does not fit the data, or the path is the input.
        """
