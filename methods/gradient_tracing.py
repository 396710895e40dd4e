"""Gradient tracing: influence without the inverse Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.selection.registry import register_method
from methods.influence import Influence, means

if TYPE_CHECKING:
    from harness.gradients.blocks import Block
    from harness.interfaces.view import View
    from methods._solvers import Solver


@register_method
@dataclass(frozen=True)
class GradientTracing(Influence):
    """Influence without the inverse: I_i = −ḡᵀ g_i, with ḡ the mean gradient of the reference set.

    This method is TracIn with the final checkpoint alone.

    Args:
        similarity: the ``dot`` product of the gradients, or their ``cosine``, which ignores gradient norms.
    """

    name: ClassVar[str] = "gradient_tracing"
    title: ClassVar[str] = "Gradient Tracing"
    source: ClassVar[str] = "Pruthi et al., NeurIPS 2020; cosine: Pezeshkpour et al., NAACL 2021"

    similarity: Literal["dot", "cosine"] = "dot"

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._convergence import Convergence, Solution

        return lambda vectors: Solution(vectors, Convergence())

    def score(self, view: View) -> np.ndarray:
        products = super().score(view)
        if self.similarity == "dot":
            return products
        reference = view.reference(self.reference, self.layers).gradients
        mean = [block.rmatvec(means(block)).square().sum() for block in reference.values()]
        return _over(products, float(sum(mean)) ** 0.5 * view.gradients_of(self.layers).norm(2))

    def pairwise(self, view: View) -> np.ndarray:
        import torch

        reference = view.reference(self.reference, self.layers)
        total = torch.zeros(reference.n, view.n, dtype=torch.float64)
        for name, block in view.gradients_of(self.layers).items():
            total -= reference.gradients[name].inner(block, precise=False).cpu()
        if self.similarity == "dot":
            return np.asarray(total.numpy())
        lengths = (reference.gradients.norm(2), view.gradients_of(self.layers).norm(2))
        return _over(total.numpy(), np.multiply.outer(*lengths))


def _over(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Products over lengths; 0 where a length is 0."""
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
