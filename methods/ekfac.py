"""Influence and self-influence with a Kronecker-factored inverse whose eigenvalues are corrected (EK-FAC).

The curvature of a layer with gradients e_i h_iᵀ is taken as U Λ Uᵀ with U = U_E ⊗ U_H: U_E and U_H are the eigenvectors
of the layer's output and input factors, and Λ is the curvature's own diagonal in that basis (George et al., NeurIPS
2018; Grosse et al. 2023, section 2.2). Where the curvature is a Kronecker product, this is the exact inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.selection.registry import register_method
from methods.influence import Damped
from methods.self_influence import SelfInfluence

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
    from methods._convergence import Convergence
    from methods._solvers import Solver


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
        from methods._kronecker import Eigenbasis
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
        from methods._kronecker import Eigenbasis
        from methods._solvers import damping_of

        basis, damping = Eigenbasis.of(block, self.hessian), damping_of(block, self.damping)
        assert isinstance(block, OuterBlock)
        return basis.quadratic(block, damping), Convergence("ekfac", block.dimension, damping)
