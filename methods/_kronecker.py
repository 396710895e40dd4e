"""The curvature of a layer in the eigenvectors of its Kronecker factors, for EK-FAC and as a preconditioner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.blocks import Block, OuterBlock

if TYPE_CHECKING:
    from methods._network import Network, Weighted


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
        """From the last layer's factors.

        Args:
            curvature: ``exact`` is the true Hessian, which needs output probabilities; ``outer_product`` is F; ``auto``
                is the first where it is known.

        Raises:
            Unsupported: the block's factors are not known, or its output probabilities are not.
        """
        if not isinstance(block, OuterBlock):
            raise Unsupported(
                "EK-FAC needs a layer's inputs and output gradients, which dense blocks of gradients do not have"
            )
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

    @classmethod
    def of_layers(cls, network: Network, inputs: Any, expected: list[Weighted]) -> dict[str, Eigenbasis]:
        """From any layers' factors, by two passes over the samples for each entry of the expectation.

        The second pass corrects the eigenvalues: they become E[(U_Eᵀ G U_H)²] of the samples' gradients G.
        """
        from methods._network import factors_of

        bases = {}
        for name, made in factors_of(network, inputs, expected).items():
            outputs, inner = (torch.linalg.eigh(factor).eigenvectors for factor in (made.outputs, made.inputs))
            bases[name] = cls(outputs, inner, torch.zeros(len(outputs), len(inner), dtype=torch.float64))
        for entry in expected:
            for rows, gradients in network.gradients(inputs, entry.targets):
                for name, basis in bases.items():
                    squares = basis.turned(gradients[name]).square()
                    weights = entry.weights[rows].to(squares.dtype) / len(entry.targets)
                    basis.values.add_(torch.einsum("n,ncd->cd", weights, squares).cpu())
        return {name: cls(basis.outputs, basis.inputs, basis.values.to(basis.outputs)) for name, basis in bases.items()}

    def turned(self, gradients: Tensor) -> Tensor:
        """U_Eᵀ G U_H for gradients (n, c, d), in their own precision."""
        return self.outputs.T.to(gradients) @ gradients @ self.inputs.to(gradients)

    def solve(self, vectors: Tensor, damping: float) -> Tensor:
        """(UΛUᵀ + λI)⁻¹ v for (p, m) vectors."""
        c, d = self.values.shape
        return self.solved(vectors.T.double().reshape(-1, c, d), damping).flatten(1).T

    def solved(self, gradients: Tensor, damping: float) -> Tensor:
        """(UΛUᵀ + λI)⁻¹ G for gradients (n, c, d), float64."""
        return self.outputs @ (self.turned(gradients.double()) / (self.values + damping)) @ self.inputs.T

    def quadratic(self, block: OuterBlock, damping: float) -> Tensor:
        """gᵀ (UΛUᵀ + λI)⁻¹ g for each sample's gradient, (n,)."""
        squares = (block.residuals.double() @ self.outputs).square()
        lengths = (block.features.double() @ self.inputs).square()
        total: Tensor = (squares @ (1 / (self.values + damping)) * lengths).sum(1)
        return total

    def quadratics(self, gradients: Tensor, damping: float) -> Tensor:
        """gᵀ (UΛUᵀ + λI)⁻¹ g for gradients (n, c, d), (n,) float64."""
        return (self.turned(gradients).double().square() / (self.values + damping)).sum((1, 2))
