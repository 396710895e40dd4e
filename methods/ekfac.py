"""Influence and self-influence with a Kronecker-factored inverse whose eigenvalues are corrected (EK-FAC).

The curvature of a layer is taken as U Λ Uᵀ with U = U_E ⊗ U_H: U_E and U_H are the eigenvectors of the layer's output
and input factors, and Λ is the curvature's own diagonal in that basis (George et al., NeurIPS 2018; Grosse et al. 2023,
section 2.2). Where the curvature is a Kronecker product, this is the exact inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.uses import of_reference
from harness.selection.registry import register_method
from methods.influence import Damped
from methods.self_influence import SelfInfluence

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
    from harness.interfaces.view import View
    from methods._convergence import Convergence
    from methods._ekfac_network import FittedNetwork
    from methods._solvers import Solver


class _Layered:
    """What both EK-FAC methods share: the curvature's labels, for the last layer or for a network's layers."""

    layers: str
    hessian: Literal["auto", "exact", "sampled", "outer_product"]
    damping: float | Literal["auto", "penalty"]

    @property
    def _of_network(self) -> bool:
        return self.layers != "last"

    def _fitted(self, view: View) -> FittedNetwork:
        from methods._ekfac_network import FittedNetwork

        return FittedNetwork.of(view, self.layers, "sampled" if self.hessian == "auto" else self.hessian, self.damping)

    def _in_last_layer(self) -> Literal["auto", "exact", "outer_product"]:
        if self.hessian == "sampled":
            raise Unsupported("hessian=sampled is for layers=all or a glob; the last layer's Hessian is known exactly")
        return self.hessian


@register_method
@dataclass(frozen=True)
class EkfacInfluence(_Layered, Damped):
    """Influence on a reference set with the EK-FAC inverse of each layer's curvature.

    Args:
        damping: λ. ``auto`` is mean(g²)/10 in the last layer, and otherwise a tenth of each layer's mean eigenvalue.
            ``penalty`` is λ of the L2 penalty in the training loss.
        layers: ``last``; ``all`` trained linear and convolutional layers of the task's torch module; or a glob over
            the names of these layers.
        hessian: the labels that the curvature averages over. ``exact``: all labels with the model's probabilities,
            which gives the true Hessian of the last layer. ``sampled``: one label per sample, drawn from these
            probabilities, as published. ``outer_product``: the given labels, which gives F. ``auto``: exact for the
            last layer, sampled otherwise, where each label costs two passes over the data.
    """

    name: ClassVar[str] = "ekfac_influence"
    title: ClassVar[str] = "EK-FAC influence"
    source: ClassVar[str] = "Grosse et al. 2023 (arXiv 2308.03296), section 2.2; George et al., NeurIPS 2018"
    precise: ClassVar[bool] = True

    layers: str = "last"
    hessian: Literal["auto", "exact", "sampled", "outer_product"] = "auto"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "inputs", "model", *of_reference(self.reference)) if self._of_network else super().uses

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._convergence import Convergence, Solution
        from methods._kronecker import Eigenbasis
        from methods._solvers import damping_of

        basis, damping = Eigenbasis.of(block, self._in_last_layer()), damping_of(block, self.damping)
        convergence = Convergence("ekfac", block.dimension, damping)
        return lambda vectors: Solution(basis.solve(vectors, damping), convergence)

    def score(self, view: View) -> np.ndarray:
        if not self._of_network or self.damping == "penalty":
            return super().score(view)
        self.refuse_class_mean()
        influence = self._fitted(view).mean_influence(view.reference(self.reference))
        return np.asarray(-self.sign * influence[0].numpy())

    def pairwise(self, view: View) -> np.ndarray:
        if not self._of_network or self.damping == "penalty":
            return super().pairwise(view)
        return np.asarray(-self._fitted(view).influences(view.reference(self.reference)).numpy())


@register_method
@dataclass(frozen=True)
class EkfacSelfInfluence(_Layered, SelfInfluence):
    """Self-influence with the EK-FAC inverse of each layer's curvature.

    Args:
        damping, layers, hessian: as for ekfac_influence.
    """

    name: ClassVar[str] = "ekfac_self_influence"
    title: ClassVar[str] = "EK-FAC self-influence"
    source: ClassVar[str] = "Grosse et al. 2023 (arXiv 2308.03296), section 2.2; George et al., NeurIPS 2018"

    layers: str = "last"
    hessian: Literal["auto", "exact", "sampled", "outer_product"] = "auto"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "inputs", "model") if self._of_network else super().uses

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        from harness.gradients.blocks import OuterBlock
        from methods._convergence import Convergence
        from methods._kronecker import Eigenbasis
        from methods._solvers import damping_of

        basis, damping = Eigenbasis.of(block, self._in_last_layer()), damping_of(block, self.damping)
        assert isinstance(block, OuterBlock)
        return basis.quadratic(block, damping), Convergence("ekfac", block.dimension, damping)

    def score(self, view: View) -> np.ndarray:
        return np.asarray(self._fitted(view).self_influence().numpy()) if self._of_network else super().score(view)
