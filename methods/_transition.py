"""An estimate of how often labels are wrong, computed only from the labels of nearest neighbours (HOC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STEPS = 1500
RATE = 0.1


@dataclass(frozen=True, eq=False)
class LabelNoise:
    """The label-noise model: a transition matrix and a class prior.

    Args:
        transition: T, (c, c). T[k, j] is the probability of the given label j if the true label is k.
        prior: probabilities of the true labels, (c,).
    """

    transition: np.ndarray
    prior: np.ndarray

    def wrong_given(self) -> np.ndarray:
        """The probability that a given label j is wrong, (c,)."""
        joint = self.prior[:, None] * self.transition
        return np.asarray(1 - np.diag(joint) / np.maximum(joint.sum(0), 1e-12))


def label_noise(labels: np.ndarray, neighbours: np.ndarray, n_classes: int) -> LabelNoise:
    """Fit T and the prior to the label frequencies of samples and of their two nearest neighbours.

    If a sample and its neighbours share one true label k, their labels are three independent draws from row k of T:
    P(a, b, c) = Σ_k p_k T[k, a] T[k, b] T[k, c]. The squared differences between this model and the frequencies of
    single labels, pairs and triples are summed, and Adam minimises the sum. T starts near the identity matrix. This
    start decides which row of T belongs to which class.

    Source: Zhu et al., ICML 2021, "Clusterability as an alternative to anchor points" (HOC).

    Args:
        labels: given labels, (n,).
        neighbours: positions of each sample's two nearest neighbours, (n, 2).
    """
    triples = [torch.from_numpy(values) for values in (labels, labels[neighbours[:, 0]], labels[neighbours[:, 1]])]
    ones = [torch.nn.functional.one_hot(values, n_classes).double() for values in triples]
    first = ones[0].mean(0)
    second = ones[0].T @ ones[1] / len(labels)
    index = (triples[0] * n_classes + triples[1]) * n_classes + triples[2]
    third = torch.bincount(index, minlength=n_classes**3).double().view(n_classes, n_classes, n_classes) / len(labels)
    start = 5.0 * torch.eye(n_classes, dtype=torch.float64)
    logits, bias = start.requires_grad_(), torch.zeros(n_classes, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits, bias], lr=RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        _misfit(logits.softmax(1), bias.softmax(0), first, second, third).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return LabelNoise(logits.detach().softmax(1).numpy(), bias.detach().softmax(0).numpy())


def _misfit(transition: Tensor, prior: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    weighted = prior.unsqueeze(1) * transition
    pairs = transition.T @ weighted
    triples = torch.einsum("ka,kb,kc->abc", weighted, transition, transition)
    difference: Tensor = (
        (prior @ transition - first).square().sum() + (pairs - second).square().sum() + (triples - third).square().sum()
    )
    return difference
