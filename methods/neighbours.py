"""Detectors that compare a sample's label with the labels of samples with similar features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.interfaces.params import option
from harness.interfaces.uses import of_reference
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class NeighbourLabels(Method):
    """SimiFeat: the share of a sample's nearest neighbours (by the cosine of features) with another label.

    The rule ``vote`` flags a sample if another label has more votes among the neighbours than the sample's own label.
    The rule ``ranking`` scores by one minus the cosine between the votes and the one-hot label. In each class
    it flags the expected number of wrong labels. HOC estimates this number from the labels' transition matrix.

    Args:
        k: number of neighbours.
        of: the trained model's ``features``, or those of the task's frozen ``encoder``.
        rule: ``vote`` (SimiFeat-V) or ``ranking`` (SimiFeat-R).
    """

    name: ClassVar[str] = "knn_labels"
    title: ClassVar[str] = "Neighbours' labels (SimiFeat)"
    source: ClassVar[str] = "Zhu et al., ICML 2022 (arXiv 2110.06283)"

    k: int = 10
    rule: Literal["vote", "ranking"] = "vote"
    of: Literal["features", "encoder"] = option("features")

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ValueError(f"k={self.k} must be at least 2")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", self.of)

    def votes(self, view: View) -> np.ndarray:
        """How many of each sample's neighbours have each label, (n, c)."""
        labels = view.labels
        near = labels[view.neighbours(self.k, self.of).indices]
        counts = np.zeros((view.n, int(labels.max()) + 1))
        np.add.at(counts, (np.arange(view.n)[:, None], near), 1)
        return counts

    def score(self, view: View) -> np.ndarray:
        votes = self.votes(view)
        own = votes[np.arange(view.n), view.labels]
        if self.rule == "vote":
            return np.asarray(1 - own / self.k)
        return np.asarray(1 - own / np.linalg.norm(votes, axis=1))

    def flag(self, view: View, scores: np.ndarray) -> np.ndarray | Flags:
        if self.rule == "vote":
            votes, rows, labels = self.votes(view), np.arange(view.n), view.labels
            return np.asarray(votes.max(1) > votes[rows, labels])
        from methods._transition import label_noise

        labels, nearest = view.labels, view.neighbours(self.k, self.of).indices[:, :2]
        wrong = label_noise(labels, nearest, int(labels.max()) + 1).wrong_given()
        flagged = np.zeros(view.n, dtype=bool)
        for c in np.unique(labels):
            members = np.flatnonzero(labels == c)
            count = round(wrong[c] * len(members))
            flagged[members[np.argsort(-scores[members], kind="stable")[:count]]] = True
        return Flags(flagged, float(wrong[labels].sum()))


@register_method
@dataclass(frozen=True)
class RelationGraph(Method):
    """Neural relation graph: the similarity to samples with other labels minus that to samples with the same label.

    The similarity of two samples is (max(0, cos(h_i, h_j)) p_i·p_j)^power, with features h and class probabilities p.
    The score sums the similarities over all other samples, with a minus sign for samples with the same label.

    Args:
        power: exponent of the similarity. A larger exponent gives more weight to the most similar samples.
    """

    name: ClassVar[str] = "relation_graph"
    title: ClassVar[str] = "Relation Graph"
    source: ClassVar[str] = "Kim et al., NeurIPS 2023 (arXiv 2301.12321)"

    power: float = 4.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"power={self.power} must be positive")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "probs", "features")

    def score(self, view: View) -> np.ndarray:
        import torch

        from harness.gradients.products import chunks
        from harness.interfaces.neighbours import unit_rows

        features = unit_rows(view.features).float()
        probs = torch.from_numpy(view.probs).float().to(features.device)
        labels = torch.from_numpy(view.labels).to(features.device)
        total = torch.zeros(view.n, dtype=torch.float64, device=features.device)
        for rows in chunks(view.n, 3 * 4 * view.n):
            alike = (features[rows] @ features.T).clamp_(min=0).mul_(probs[rows] @ probs.T).pow_(self.power)
            here = torch.arange(rows.start, rows.stop, device=alike.device)
            alike[here - rows.start, here] = 0
            sign = torch.where(labels[rows].unsqueeze(1) == labels, -1.0, 1.0)
            total[rows] = (alike * sign).sum(1, dtype=torch.float64)
        return np.asarray(total.cpu().numpy())


@register_method
@dataclass(frozen=True)
class NeighbourShapley(Method):
    """KNN-Shapley: minus the exact Shapley value of each training sample for a k-nearest-neighbour classifier.

    The value is averaged over the samples of a reference set. The cosine of features decides who the neighbours are.

    Args:
        k: number of neighbours of the classifier.
        reference: ``validation`` (clean), ``noisy_validation``, or the ``test`` samples of an attribution task.
    """

    name: ClassVar[str] = "knn_shapley"
    title: ClassVar[str] = "KNN-Shapley"
    source: ClassVar[str] = "Jia et al., VLDB 2019"

    k: int = 10
    reference: Literal["validation", "noisy_validation", "test"] = "validation"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k} must be at least 1")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "features", *of_reference(self.reference))

    def score(self, view: View) -> np.ndarray:
        import torch

        from harness.errors import Unsupported
        from harness.gradients.products import chunks
        from harness.interfaces.neighbours import unit_rows

        reference = view.reference(self.reference)
        if reference.features is None:
            raise Unsupported("this view has no last-layer features of its reference set")
        unit, asked = unit_rows(view.features), unit_rows(reference.features)
        labels = torch.from_numpy(view.labels).to(unit.device)
        wanted = torch.from_numpy(reference.labels).to(unit.device)
        n = view.n
        places = torch.arange(1, n, device=unit.device, dtype=torch.float64)
        shares = places.clamp(max=self.k) / places / self.k  # min(k, i) / (k i)
        total = torch.zeros(n, dtype=torch.float64, device=unit.device)
        for rows in chunks(len(asked), 6 * 8 * n):
            order = (asked[rows] @ unit.T).argsort(dim=1, descending=True, stable=True)
            match = (labels[order] == wanted[rows].unsqueeze(1)).double()
            steps = (match[:, :-1] - match[:, 1:]) * shares
            last = match[:, -1:] * min(self.k, n) / (n * self.k)
            values = torch.cat([steps.flip(1).cumsum(1).flip(1) + last, last], dim=1)
            total.scatter_add_(0, order.reshape(-1), values.reshape(-1))
        return np.asarray(-(total / len(asked)).cpu().numpy())
