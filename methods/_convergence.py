"""The record of how a damped linear system was solved: the solver, its iterations and its residual."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Convergence:
    """The numbers that describe one solution of (C + λI) u = v. A number that the solver does not have is None.

    Args:
        solver: ``cholesky``, ``eigenvectors``, ``conjugate_gradient`` or ``neumann``.
        dimension: p, the number of unknowns.
        damping: λ, or the smallest and the largest λ if every sample has its own λ.
        smallest_eigenvalue: the smallest eigenvalue of C.
        iterations: the largest number of iterations among the right-hand sides.
        relative_residual: the largest |(C + λI) u − v| / |v|.
        converged: whether every relative residual is within the tolerance.
    """

    solver: str | None = None
    dimension: int | None = None
    damping: float | list[float] | None = None
    smallest_eigenvalue: float | None = None
    iterations: int | None = None
    relative_residual: float | None = None
    converged: bool | None = None

    @classmethod
    def iterated(
        cls,
        solver: str | None,
        damping: float | list[float],
        iterations: int,
        relative_residual: float,
        tolerance: float,
        dimension: int | None = None,
    ) -> Convergence:
        """The record of an iterative solver that stopped at the given relative residual."""
        within = relative_residual <= tolerance
        return cls(solver, dimension, damping, None, iterations, relative_residual, within)

    def worst(self, other: Convergence) -> Convergence:
        """The worse of each number, for two chunks of right-hand sides that were solved with the same operator."""
        if self.relative_residual is None or other.relative_residual is None:
            return other if self.relative_residual is None else self
        return replace(
            other,
            iterations=max(self.iterations or 0, other.iterations or 0),
            relative_residual=max(self.relative_residual, other.relative_residual),
            converged=bool(self.converged and other.converged),
        )

    def as_health(self) -> dict[str, Any]:
        """The numbers that are known, for `View.health`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Solution:
    """The solution u of (C + λI) u = v, (p, m) float64, with its convergence record."""

    values: Tensor
    convergence: Convergence
