"""Samples and splits: a task's data as models and methods see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs, (n, …), and given labels, (n,) int64. Inputs are None where only a model's outputs are known.

    Args:
        classes: the class of each sample of an attribution task, (n,) int64. No model is trained on the classes.
    """

    inputs: Any
    labels: Tensor
    classes: np.ndarray | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, k: int) -> Samples:
        """The first k samples."""
        classes = None if self.classes is None else self.classes[:k]
        return Samples(self.inputs[:k], self.labels[:k], classes=classes)

    def to(self, device: str) -> Samples:
        inputs = None if self.inputs is None else self.inputs.to(device)
        return Samples(inputs, self.labels.to(device), classes=self.classes)


@dataclass(frozen=True, eq=False)
class Split:
    """A task's data as models and methods see it: given labels only.

    Args:
        train: the samples that the model is trained on and that methods score.
        test: the samples that the reported metric is measured on.
        references: further labelled sets that no model is trained on (``"validation"``: clean labels;
            ``"noisy_validation"``: the same samples with labels as noisy as the training set's).
        n_classes: the number of classes, c.
    """

    train: Samples
    test: Samples
    references: Mapping[str, Samples]
    n_classes: int
    device: str = "cpu"

    @property
    def asked(self) -> Samples:
        """The samples that an attribution task attributes to: the reference set ``test``, or the test samples."""
        return self.references.get("test", self.test)

    def to(self, device: str) -> Split:
        """The same data on a device."""
        references = {name: samples.to(device) for name, samples in self.references.items()}
        train, test = self.train.to(device), self.test.to(device)
        return replace(self, train=train, test=test, references=references, device=device)
