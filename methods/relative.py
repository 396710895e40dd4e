"""Influence relative to the norm of a sample's effect on the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.selection.registry import register_method
from methods.influence import ExactHessian, means

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
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
        self.refuse_class_mean()
        return np.asarray(self.sign * self._relative(view, lambda block: block.rmatvec(means(block)).unsqueeze(0))[0])

    def pairwise(self, view: View) -> np.ndarray:
        return self._relative(view, lambda block: block.rows(slice(None), precise=True))

    def _relative(self, view: View, reference_rows: Callable[[Block], Tensor]) -> np.ndarray:
        """The relative influences on m reference gradients, (m, n), from one solved system per training sample.

        Args:
            reference_rows: the reference gradients (m, p) of a block of the reference set.
        """
        import torch

        from harness.gradients.products import chunks
        from methods._convergence import Convergence

        reference = view.reference(self.reference, self.layers).gradients
        influence, squares = torch.zeros((), dtype=torch.float64), torch.zeros(view.n, dtype=torch.float64)
        for name, block in view.gradients_of(self.layers).items():
            solve, convergence, left = self.inverse(block, view.n), Convergence(), reference_rows(reference[name])
            products = torch.zeros(len(left), view.n, dtype=torch.float64)
            for rows in chunks(view.n, 8 * 6 * block.dimension):
                solution = solve(block.rows(rows, precise=True).T)
                convergence = convergence.worst(solution.convergence)
                products[:, rows] = (left @ solution.values).cpu()
                squares[rows] += solution.values.square().sum(0).cpu()
            influence = influence - products
            view.health[name] = convergence.as_health()
        lengths = torch.where(squares > 0, squares.sqrt(), 1.0)  # a zero gradient has influence 0
        return np.asarray((influence / lengths).numpy())
