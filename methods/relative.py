"""Influence relative to the norm of a sample's effect on the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.selection.registry import register_method
from methods.influence import ExactHessian

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class RelatIF(ExactHessian):
    """Relative influence: the influence −ḡᵀ(C + λI)⁻¹g_i divided by the norm |(C + λI)⁻¹g_i|.

    The norm is the size of the sample's effect on the parameters of all layers together. So a sample that changes the
    whole model ranks lower than by influence.
    """

    name: ClassVar[str] = "relat_if"
    title: ClassVar[str] = "RelatIF"
    source: ClassVar[str] = "Barshan et al., AISTATS 2020 (θ-relative influence)"

    def score(self, view: View) -> np.ndarray:
        return np.asarray(super().score(view) / self._lengths(view))

    def attribute(self, view: View) -> np.ndarray:
        return np.asarray(super().attribute(view) / self._lengths(view))

    def _lengths(self, view: View) -> np.ndarray:
        """|(C + λI)⁻¹ g_i| over all layers, (n,); 1 for a zero gradient."""
        import torch

        from harness.gradients.products import chunks

        squares = torch.zeros(view.n, dtype=torch.float64)
        for block in view.gradients_of(self.layers).values():
            solve = self.inverse(block, view.n)
            for rows in chunks(view.n, 8 * 6 * block.dimension):
                solved = solve(block.rows(rows, precise=True).T).values
                squares[rows] += solved.square().sum(0).cpu()
        return np.where(squares > 0, np.sqrt(squares.numpy()), 1.0)
