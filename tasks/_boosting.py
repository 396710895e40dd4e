"""Gradient-boosted trees on features, for tables whose classes no linear model can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.errors import Unsupported
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split


@dataclass(frozen=True, eq=False)
class TrainedTrees:
    """Trained trees, with the interface of `tasks._probe.TrainedProbe`.

    Args:
        classifier: a fitted classifier of scikit-learn. It may know fewer classes than there are.
        n_classes: the number of classes, c.
    """

    classifier: Any
    n_classes: int

    def probs(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities, (n, c)."""
        probs = np.zeros((len(features), self.n_classes))
        probs[:, self.classifier.classes_] = self.classifier.predict_proba(features)
        return probs

    def outputs(self, samples: Samples) -> Outputs:
        """Probabilities alone, because trees have no last layer."""
        values = samples.inputs.values.cpu().numpy()
        return Outputs(samples.labels, torch.from_numpy(self.probs(values)), None)

    def module(self) -> Any:
        raise Unsupported("gradient-boosted trees are no torch module")


@dataclass(frozen=True)
class Boosting:
    """How trees are trained.

    Args:
        rounds: number of boosting rounds.
        leaves: most leaves of a tree.
    """

    rounds: int = 60
    leaves: int = 15

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> TrainedTrees:
        """One model; all samples for ``keep=None``."""
        values, labels = split.train.inputs.values.cpu().numpy(), split.train.labels.cpu().numpy()
        if keep is not None:
            values, labels = values[keep], labels[keep]
        return TrainedTrees(self.fitted(values, labels, seed), split.n_classes)

    def train_all(
        self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]
    ) -> Iterator[list[TrainedTrees]]:
        """As `harness.interfaces.task.Task.train_all`."""
        for split, keeps, seed in wanted:
            for keep in keeps:
                yield [self.train(split, keep, seed)]

    def fitted(self, values: np.ndarray, labels: np.ndarray, seed: int) -> Any:
        """A classifier of scikit-learn, fitted."""
        from sklearn.dummy import DummyClassifier
        from sklearn.ensemble import HistGradientBoostingClassifier

        if len(np.unique(labels)) < 2:
            return DummyClassifier(strategy="prior").fit(values, labels)
        trees = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=min(20, max(2, len(labels) // 20)),
            early_stopping=False,
            random_state=seed % 2**32,
        )
        return trees.fit(values, labels)
