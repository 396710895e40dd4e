"""Classifiers of scikit-learn as models of a user's data: gradient-boosted trees, and regression on sparse features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split
from tasks._probe import Features


@dataclass(frozen=True, eq=False)
class SparseFeatures(Features):
    """Features of texts.

    ``values`` are the sparse features reduced to a few dimensions. They serve to compare samples; no model sees them.

    Args:
        sparse: a scipy CSR matrix (n, terms), which the model sees.
    """

    sparse: Any = field(kw_only=True)

    def to(self, device: str) -> SparseFeatures:
        if str(self.values.device) == device:
            return self
        return SparseFeatures(self.values.to(device), self.images, sparse=self.sparse)


def taken(features: Features, rows: np.ndarray) -> Features:
    """The features of some samples."""
    values: Tensor = features.values[torch.from_numpy(rows)]
    if isinstance(features, SparseFeatures):
        return SparseFeatures(values, features.images, sparse=features.sparse[rows])
    return Features(values, features.images)


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A trained classifier, with the interface of `tasks._probe.TrainedProbe`.

    Args:
        classifier: of scikit-learn, fitted. It may know fewer classes than there are.
        n_classes: the number of classes, c.
    """

    classifier: Any
    n_classes: int

    def outputs(self, samples: Samples) -> Outputs:
        """Probabilities alone, because there is no last layer whose inputs are known."""
        probs = np.zeros((len(samples), self.n_classes))
        if len(samples):
            probs[:, self.classifier.classes_] = self.classifier.predict_proba(seen_of(samples.inputs))
        return Outputs(samples.labels, torch.from_numpy(probs))

    def module(self) -> Any:
        raise Unsupported(f"{type(self.classifier).__name__} is no torch module")


def seen_of(features: Features) -> Any:
    """What a classifier sees: the sparse matrix of texts, otherwise (n, d) float32."""
    return features.sparse if isinstance(features, SparseFeatures) else features.values.cpu().numpy()


@dataclass(frozen=True)
class Classifier:
    """A way to train a classifier. A subclass implements `fitted`."""

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> TrainedClassifier:
        """One model; all samples for ``keep=None``.

        Raises:
            ValueError: the kept set is empty.
        """
        from sklearn.dummy import DummyClassifier

        rows = np.arange(len(split.train)) if keep is None else np.flatnonzero(keep)
        if not len(rows):
            raise ValueError("a kept set is empty: there is nothing to train on")
        values, labels = seen_of(split.train.inputs)[rows], split.train.labels.cpu().numpy()[rows]
        if len(np.unique(labels)) < 2:
            return TrainedClassifier(DummyClassifier(strategy="prior").fit(values, labels), split.n_classes)
        return TrainedClassifier(self.fitted(values, labels, split, seed), split.n_classes)

    def train_all(
        self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]
    ) -> Iterator[list[TrainedClassifier]]:
        """As `harness.interfaces.task.Task.train_all`."""
        for split, keeps, seed in wanted:
            for keep in keeps:
                yield [self.train(split, keep, seed)]

    def fitted(self, values: Any, labels: np.ndarray, split: Split, seed: int) -> Any:
        """A fitted classifier of scikit-learn.

        Args:
            values, labels: the samples to train on.
            split: all samples, whose features keep what is found out once.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Boosting(Classifier):
    """Gradient-boosted trees, for tables whose classes no linear model can tell apart.

    Args:
        rounds: number of boosting rounds.
        leaves: most leaves of a tree.
    """

    rounds: int = 60
    leaves: int = 15

    def fitted(self, values: Any, labels: np.ndarray, split: Split, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        trees = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=min(20, max(2, len(labels) // 20)),
            early_stopping=False,
            random_state=seed % 2**32,
        )
        return trees.fit(values, labels)


STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Inverse penalties C that are tried."""

HELD_OUT = 10
"""Every tenth sample is held out to choose the penalty."""


@dataclass(frozen=True)
class SparseRegression(Classifier):
    """Softmax regression on sparse features. The penalty is chosen once by held-out labels."""

    def fitted(self, values: Any, labels: np.ndarray, split: Split, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        known: dict[str, Any] = split.train.inputs.fitted
        if "strength" not in known:
            known["strength"] = _strength(values, labels)
        return LogisticRegression(C=known["strength"], max_iter=300).fit(values, labels)


def _strength(values: Any, labels: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression

    held = np.zeros(len(labels), dtype=bool)
    held[::HELD_OUT] = True
    held &= np.isin(labels, labels[~held])
    if len(np.unique(labels[~held])) < 2 or not held.any():
        return 1.0
    losses = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300).fit(values[~held], labels[~held])
        probs = model.predict_proba(values[held])
        picked = probs[np.arange(int(held.sum())), np.searchsorted(model.classes_, labels[held])]
        losses.append(-np.log(np.maximum(picked, 1e-6)).mean())
    return STRENGTHS[int(np.argmin(losses))]
