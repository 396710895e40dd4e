"""What a model is trained on again: the kept samples, or all samples with the suspects' labels replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.interfaces.task import Split
from harness.running.base_models import model_seed
from harness.running.scored import Scored
from harness.running.services import training
from harness.seeds import derive


@dataclass(frozen=True, eq=False)
class Retraining:
    """One model to train, and the cells that share it.

    Args:
        split, keep: the data and the kept set that the model is trained on.
        repair_seconds: what it took to find the labels that replace the suspects'.
    """

    entries: list[Scored]
    split: Split
    keep: np.ndarray
    repair_seconds: float = 0.0

    @property
    def seed(self) -> int:
        return self.entries[0].base.seed


def retraining(entries: list[Scored]) -> Retraining:
    """The retraining of cells with one kept set and one way of repair.

    Raises:
        Unsupported: labels are to be replaced, and the task cannot be cross-validated.
    """
    first = entries[0]
    base, task = first.base, first.cell.task
    if task.repair == "remove":
        return Retraining(entries, base.split, first.keep)
    offered = training(task, base.split, model_seed(task, base.seed), derive("folds", task.name, base.seed))
    view = base.view.fresh(0, offered)
    predicted = torch.from_numpy(view.out_of_sample_probs.argmax(1)).to(base.split.train.labels)
    suspects = torch.from_numpy(~first.keep).to(predicted.device)
    labels = torch.where(suspects, predicted, base.split.train.labels)
    split = replace(base.split, train=replace(base.split.train, labels=labels))
    return Retraining(entries, split, np.ones_like(first.keep), view.extract_seconds)
