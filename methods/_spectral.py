"""Eigenvectors of a block's outer-product matrix F. In these coordinates a recursion step costs p, not p²."""

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
        basis: V, (p, m), orthonormal columns. F maps every vector that is orthogonal to all columns to zero.
    """

    values: Tensor
    basis: Tensor

    @classmethod
    def of(cls, block: Block) -> Spectrum:
        """The spectrum of a block's F.

        If p ≤ n, the eigenvectors of F are computed. Otherwise a singular value decomposition of the gradients is.
        """
        if block.dimension <= block.n:
            values, basis = torch.linalg.eigh(OuterProduct(block).matrix())
            return cls(values.clamp_min(0), basis)
        basis, small = torch.linalg.qr(block.rows(slice(None), precise=True).T)
        left, singular, _ = torch.linalg.svd(small)  # only n × n, so the decomposition is fast on a GPU too
        return cls(singular.square() / block.n, basis @ left)

    def apply(self, solve: Callable[[Diagonal, Tensor], Solution], vectors: Tensor) -> Solution:
        """Solve for (p, k) right-hand sides in the eigenvectors of F.

        Args:
            solve: a solver that is a polynomial of F. The solver gets F and the vectors in eigenvector coordinates.
                The last coordinate is the norm of a vector's part that is orthogonal to all eigenvectors.
        """
        inside = self.basis.T @ vectors
        outside = vectors - self.basis @ inside
        length = outside.norm(dim=0, keepdim=True)
        diagonal = Diagonal(torch.cat([self.values, self.values.new_zeros(1)]))
        solution = solve(diagonal, torch.cat([inside, length]))
        along, beyond = solution.values[:-1], solution.values[-1:] / length.clamp_min(1e-300)
        convergence = replace(solution.convergence, dimension=len(self.basis))
        return Solution(self.basis @ along + outside * beyond, convergence)
