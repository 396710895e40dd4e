"""Exact nearest neighbours by cosine similarity, at the speed of the matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.products import chunks


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest other samples of each sample, nearest first.

    Args:
        indices: their positions, (n, k) int64.
        similarities: cosines of the angles between the features, (n, k) float32.
    """

    indices: np.ndarray
    similarities: np.ndarray


def nearest(features: Tensor, k: int, among: Tensor | None = None) -> Neighbours:
    """For each sample the k most alike samples by the cosine of their features; zero features are alike to none.

    Args:
        features: (n, d).
        k: at least 1.
        among: (m, d) features to look among; None looks among the samples themselves, each sample left out.

    Raises:
        Unsupported: there are fewer than k samples to look among.
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    unit = unit_rows(features).float()
    others = unit if among is None else unit_rows(among).float()
    if len(others) - (among is None) < k:
        raise Unsupported(f"{k} neighbours need more samples than the {len(others)} that there are")
    indices, similarities = [], []
    for rows in chunks(len(unit), 4 * len(others)):
        products = unit[rows] @ others.T
        if among is None:
            here = torch.arange(rows.start, rows.stop, device=products.device)
            products[torch.arange(len(here), device=products.device), here] = -torch.inf
        values, places = products.topk(k, dim=1)
        indices.append(places.cpu())
        similarities.append(values.cpu())
    return Neighbours(torch.cat(indices).numpy(), torch.cat(similarities).numpy())


def unit_rows(features: Tensor) -> Tensor:
    """Rows of length 1 in float64; rows of zeros stay zeros."""
    scaled = features.double()
    scaled = scaled / scaled.abs().amax(1, keepdim=True).clamp_min(1e-300)  # so that no square leaves the range
    return torch.nn.functional.normalize(scaled, dim=1)
