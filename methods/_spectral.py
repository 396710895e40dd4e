"""A block's outer-product matrix in its own eigenvectors, where a recursion costs p numbers a step instead of p²."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.gradients.blocks import Block
from methods._convergence import Solution
from methods._curvature import OuterProduct


@dataclass(frozen=True)
class Diagonal:
    """A diagonal curvature operator."""

    values: Tensor

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def dimension(self) -> int:
        return len(self.values)

    def matvec(self, vectors: Tensor) -> Tensor:
        return self.values.unsqueeze(1) * vectors

    def matrix(self) -> Tensor:
        return torch.diag(self.values)


@dataclass(frozen=True)
class Spectrum:
    """F = V diag(λ) Vᵀ in float64.

    Args:
        values: λ ≥ 0, (m,), m = min(n, p).
        basis: V, (p, m), orthonormal columns; F is zero on what is orthogonal to them.
    """

    values: Tensor
    basis: Tensor

    @classmethod
    def of(cls, block: Block) -> Spectrum:
        """By the eigenvectors of F, or where there are fewer samples than parameters by a singular value decomposition
        of the gradients."""
        if block.dimension <= block.n:
            values, basis = torch.linalg.eigh(OuterProduct(block).matrix())
            return cls(values.clamp_min(0), basis)
        basis, small = torch.linalg.qr(block.rows(slice(None), precise=True).T)
        left, singular, _ = torch.linalg.svd(small)  # n × n, which a GPU does fast, too
        return cls(singular.square() / block.n, basis @ left)

    def apply(self, solve: Callable[[Diagonal, Tensor], Solution], vectors: Tensor) -> Solution:
        """(p, k) vectors, solved for in the eigenvectors of F by a way of solving that is a polynomial of F.

        Args:
            solve: given F and vectors in the coordinates of the eigenvectors. The last coordinate is the length of
                what lies outside the eigenvectors, where F is zero.
        """
        inside = self.basis.T @ vectors
        outside = vectors - self.basis @ inside
        length = outside.norm(dim=0, keepdim=True)
        diagonal = Diagonal(torch.cat([self.values, self.values.new_zeros(1)]))
        solution = solve(diagonal, torch.cat([inside, length]))
        along, beyond = solution.values[:-1], solution.values[-1:] / length.clamp_min(1e-300)
        convergence = replace(solution.convergence, dimension=len(self.basis))
        return Solution(self.basis @ along + outside * beyond, convergence)
