"""Influence and self-influence with a Kronecker-factored inverse whose eigenvalues are corrected (EK-FAC).

The curvature of a layer with gradients e_i h_iᵀ is taken as U Λ Uᵀ with U = U_E ⊗ U_H: U_E and U_H are the eigenvectors
of the layer's output and input factors, and Λ is the curvature's own diagonal in that basis (George et al., NeurIPS
2018; Grosse et al. 2023, section 2.2). Where the curvature is a Kronecker product, this is the exact inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.errors import Unsupported
from harness.selection.registry import register_method
from methods.influence import Damped
from methods.self_influence import SelfInfluence

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block, OuterBlock
    from methods._convergence import Convergence
    from methods._solvers import Solver


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """The curvature of a layer in the eigenvectors of its Kronecker factors, float64.

    Args:
        outputs: U_E, (c, c) orthonormal columns.
        inputs: U_H, (d, d) orthonormal columns.
        values: the corrected eigenvalues, (c, d).
    """

    outputs: Tensor
    inputs: Tensor
    values: Tensor

    @classmethod
    def of(cls, block: Block, curvature: Literal["auto", "exact", "outer_product"]) -> Eigenbasis:
        """From a layer's factors.

        Args:
            curvature: ``exact`` is the true Hessian, which needs output probabilities; ``outer_product`` is F; ``auto``
                is the first where it is known.

        Raises:
            Unsupported: the block's factors are not known, or its output probabilities are not.
        """
        import torch

        from harness.gradients.blocks import OuterBlock

        if not isinstance(block, OuterBlock):
            raise Unsupported("EK-FAC needs a layer's inputs and output gradients, which only a last layer with features has")
        if curvature == "exact" and block.probs is None:
            raise Unsupported("the true Hessian is known for a last layer with its output probabilities only")
        exact = curvature != "outer_product" and block.probs is not None
        residuals, features = block.residuals.double(), block.features.double()
        n = block.n
        if exact:
            assert block.probs is not None
            probs = block.probs.double()
            spread = probs * (1 - probs) if probs.shape[1] == 1 else probs
            factor = torch.diag(spread.mean(0)) - (probs.T @ probs / n if probs.shape[1] > 1 else 0)
        else:
            factor = residuals.T @ residuals / n
        outputs = torch.linalg.eigh(factor).eigenvectors
        inputs = torch.linalg.eigh(features.T @ features / n).eigenvectors
        if exact:  # the variance of the residual along each eigenvector, under the model's own distribution
            squares = spread @ outputs.square()
            if probs.shape[1] > 1:
                squares = squares - (probs @ outputs).square()
        else:
            squares = (residuals @ outputs).square()
        return cls(outputs, inputs, squares.T @ (features @ inputs).square() / n)

    def solve(self, vectors: Tensor, damping: float) -> Tensor:
        """(UΛUᵀ + λI)⁻¹ v for (p, m) vectors."""
        c, d = self.values.shape
        turned = self.outputs.T @ vectors.T.double().reshape(-1, c, d) @ self.inputs
        solved = self.outputs @ (turned / (self.values + damping)) @ self.inputs.T
        return solved.reshape(len(solved), -1).T

    def quadratic(self, block: OuterBlock, damping: float) -> Tensor:
        """gᵀ (UΛUᵀ + λI)⁻¹ g for each sample's gradient, (n,)."""
        squares = (block.residuals.double() @ self.outputs).square()
        lengths = (block.features.double() @ self.inputs).square()
        total: Tensor = (squares @ (1 / (self.values + damping)) * lengths).sum(1)
        return total


@register_method
@dataclass(frozen=True)
class EkfacInfluence(Damped):
    """Influence on a reference set with the EK-FAC inverse of the last layer's curvature.

    Args:
        hessian: ``exact`` corrects the eigenvalues by the true Hessian, ``outer_product`` by F; ``auto`` takes the true
            Hessian where it is known.
    """

    name: ClassVar[str] = "ekfac_influence"
    title: ClassVar[str] = "EK-FAC influence"
    source: ClassVar[str] = "Grosse et al. 2023 (arXiv 2308.03296), section 2.2; George et al., NeurIPS 2018"
    precise: ClassVar[bool] = True

    layers: str = "last"
    hessian: Literal["auto", "exact", "outer_product"] = "auto"

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._convergence import Convergence, Solution
        from methods._solvers import damping_of

        basis, damping = Eigenbasis.of(block, self.hessian), damping_of(block, self.damping)
        convergence = Convergence("ekfac", block.dimension, damping)
        return lambda vectors: Solution(basis.solve(vectors, damping), convergence)


@register_method
@dataclass(frozen=True)
class EkfacSelfInfluence(SelfInfluence):
    """Self-influence with the EK-FAC inverse of the last layer's curvature.

    Args:
        hessian: as for ekfac_influence.
    """

    name: ClassVar[str] = "ekfac_self_influence"
    title: ClassVar[str] = "EK-FAC self-influence"
    source: ClassVar[str] = "Grosse et al. 2023 (arXiv 2308.03296), section 2.2; George et al., NeurIPS 2018"

    layers: str = "last"
    hessian: Literal["auto", "exact", "outer_product"] = "auto"

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        from harness.gradients.blocks import OuterBlock
        from methods._convergence import Convergence
        from methods._solvers import damping_of

        basis, damping = Eigenbasis.of(block, self.hessian), damping_of(block, self.damping)
        assert isinstance(block, OuterBlock)
        return basis.quadratic(block, damping), Convergence("ekfac", block.dimension, damping)
