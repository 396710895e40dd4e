"""Solvers of damped linear systems (C + λI) u = v for a curvature operator C, with convergence records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from harness.gradients.blocks import Block, OuterBlock
from methods._convergence import Convergence, Solution
from methods._curvature import Curvature, LastLayerHessian, OuterProduct
from methods._kronecker import Eigenbasis
from methods._spectral import Spectrum

FACTOR_BYTES = 4 * 2**30
"""A matrix is factorised only if the float64 matrix and one copy fit in this many bytes."""

MOST_ITERATIONS = 500
"""The limit on conjugate-gradient iterations. The cost estimate in `factorised` also assumes this number."""

CONVERGED = 1e-8
"""Relative residual at which conjugate gradients stop."""

SMALLEST_DAMPING = 1e-150

Solver = Callable[[Tensor], Solution]
"""A function from right-hand sides v, (p, m), to their `Solution`."""


def damping_of(block: Block, damping: float | str, squared_norms: Tensor | None = None) -> float:
    """λ as a number: the given number, or for ``"auto"`` the layer-wise rule mean(g²)/10 (DataInf, section 3).

    If all gradients of the block are zero, the rule gives λ = 0. λ is then `SMALLEST_DAMPING` instead, so that 0/λ is
    0 and not NaN.

    Args:
        squared_norms: the squared gradient norms of the block, if the caller has computed them already.
    """
    if damping != "auto":
        return float(damping)
    squared = block.squared_norms(precise=False) if squared_norms is None else squared_norms
    automatic = float(squared.mean()) / block.dimension / 10
    return max(automatic, SMALLEST_DAMPING)


class Factorised:
    """Cholesky factor of C + λI (p up to a few thousand).

    Attributes:
        convergence: the record, with the smallest eigenvalue of C as estimated by inverse iteration.

    Raises:
        ValueError: C + λI is not positive definite.
    """

    def __init__(self, curvature: Curvature, damping: float) -> None:
        damped = curvature.matrix()
        damped.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info):
            raise ValueError(
                f"C + λI is not positive definite at λ = {damping:.3g} (minor {int(info)}); give a larger damping"
            )
        self.factor = factor
        self.convergence = Convergence("cholesky", len(factor), damping, self._smallest_eigenvalue(damping))

    def solve(self, vectors: Tensor) -> Tensor:
        """(C + λI)⁻¹ v for (p, m) vectors."""
        solved: Tensor = torch.cholesky_solve(vectors, self.factor)
        return solved

    def quadratic(self, rows: Tensor) -> Tensor:
        """gᵀ (C + λI)⁻¹ g for each row g of (r, p), by one triangular solve."""
        half: Tensor = torch.linalg.solve_triangular(self.factor, rows.double().T, upper=False)
        return half.square().sum(0)

    def _smallest_eigenvalue(self, damping: float) -> float:
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(len(self.factor), 1, generator=generator, dtype=self.factor.dtype).to(self.factor.device)
        for _ in range(30):
            vector = self.solve(vector)
            vector = vector / vector.norm()
        return float((self.factor.T @ vector).square().sum()) - damping


def conjugate_gradient(
    curvature: Curvature,
    damping: float,
    vectors: Tensor,
    tolerance: float = CONVERGED,
    max_iterations: int = MOST_ITERATIONS,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Solution:
    """(C + λI)⁻¹ v for (p, m) vectors without forming C.

    Args:
        tolerance: stop when every |residual| / |v| is below it.
        precondition: a symmetric positive definite stand-in for (C + λI)⁻¹; the nearer, the fewer iterations.
    """
    solution = torch.zeros_like(vectors)
    residual = vectors.clone()
    target = (vectors**2).sum(0) * tolerance**2
    toward = residual.clone() if precondition is None else precondition(residual)
    direction, product = toward.clone(), (residual * toward).sum(0)
    iterations = 0
    while iterations < max_iterations and bool(((residual**2).sum(0) > target).any()):
        curved = curvature.matvec(direction) + damping * direction
        denominator = (direction * curved).sum(0)
        step = torch.where(denominator > 0, product / denominator.clamp_min(1e-300), torch.zeros_like(product))
        solution += step * direction
        residual -= step * curved
        toward = residual if precondition is None else precondition(residual)
        before, product = product, (residual * toward).sum(0)
        direction = toward + torch.where(before > 0, product / before.clamp_min(1e-300), before) * direction
        iterations += 1
    relative = float(((residual**2).sum(0) / (vectors**2).sum(0).clamp_min(1e-300)).sqrt().max())
    name, dimension = "conjugate_gradient", curvature.dimension
    return Solution(solution, Convergence.iterated(name, damping, iterations, relative, tolerance, dimension))


def preconditioner(curvature: Curvature, damping: float) -> Callable[[Tensor], Tensor] | None:
    """The EK-FAC inverse of a last layer's curvature, which needs two small eigendecompositions; None for others."""
    block = getattr(curvature, "block", None)
    if not isinstance(block, OuterBlock) or not damping > 0:
        return None
    basis = Eigenbasis.of(block, "exact" if isinstance(curvature, LastLayerHessian) else "outer_product")
    return partial(basis.solve, damping=damping)


class InEigenvectors:
    """(F + λI)⁻¹ by the eigenvectors of F, of which min(n, p) are computed.

    Attributes:
        convergence: the record. The smallest eigenvalue is 0, because n < p samples give F at most n positive ones.
    """

    def __init__(self, block: Block, damping: float) -> None:
        self.spectrum, self.damping = Spectrum.of(block), damping
        self.convergence = Convergence("eigenvectors", block.dimension, damping, 0.0)

    def _split(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors' coordinates in the eigenvectors, (m, k), and the vectors' part orthogonal to them, (p, k)."""
        inside = self.spectrum.basis.T @ vectors
        return inside, vectors - self.spectrum.basis @ inside

    def solve(self, vectors: Tensor) -> Tensor:
        """(F + λI)⁻¹ v for (p, k) vectors."""
        inside, outside = self._split(vectors)
        return (
            self.spectrum.basis @ (inside / (self.spectrum.values + self.damping).unsqueeze(1)) + outside / self.damping
        )

    def quadratic(self, rows: Tensor) -> Tensor:
        """gᵀ (F + λI)⁻¹ g for each row g of (r, p)."""
        inside, outside = self._split(rows.double().T)
        weighted = inside.square() / (self.spectrum.values + self.damping).unsqueeze(1)
        total: Tensor = weighted.sum(0) + outside.square().sum(0) / self.damping
        return total


def factorised(curvature: Curvature, damping: float, columns: int = 1) -> Factorised | InEigenvectors | None:
    """A factorisation of C + λI: by Cholesky or by eigenvectors, whichever takes fewer operations.

    None if conjugate gradients take fewer operations, or if neither factorisation fits in memory.

    Args:
        columns: the number of right-hand sides to solve for.
    """
    iterating = MOST_ITERATIONS * 4.0 * curvature.n * curvature.dimension * columns
    ways = [("cholesky", _cholesky_operations(curvature, columns), 16 * curvature.dimension**2)]
    if isinstance(curvature, OuterProduct) and damping > 0:
        smaller = min(curvature.n, curvature.dimension)
        ways.append(("eigenvectors", _spectral_operations(curvature, columns), 16 * smaller * curvature.dimension))
    fitting = [(operations, way) for way, operations, size in ways if size <= FACTOR_BYTES]
    if not fitting or min(fitting)[0] > iterating:
        return None
    try:
        if min(fitting)[1] == "eigenvectors":
            assert isinstance(curvature, OuterProduct)
            return InEigenvectors(curvature.block, damping)
        return Factorised(curvature, damping)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        return None


def _cholesky_operations(curvature: Curvature, columns: int) -> float:
    """n p² operations to form the matrix, p³/3 to factorise the matrix, 2 p² for each right-hand side."""
    n, p = curvature.n, curvature.dimension
    return n * p**2 + p**3 / 3 + 2.0 * p**2 * columns


def _spectral_operations(curvature: Curvature, columns: int) -> float:
    """The number of operations of `InEigenvectors`.

    If n < p: an orthogonal basis of the gradients, and the singular vectors of an n × n matrix. Otherwise: the
    eigenvectors of the p × p matrix. In both cases: two products with the basis for each right-hand side.
    """
    n, p = curvature.n, curvature.dimension
    m = min(n, p)
    basis = 4.0 * p * n**2 + 20.0 * n**3 if n < p else n * p**2 + 10.0 * p**3
    return basis + 4.0 * p * m * columns


def solver(curvature: Curvature, damping: float, columns: int = 1) -> Solver:
    """The solver of (C + λI) u = v: the factorisation of `factorised`, or conjugate gradients where that is None.

    If conjugate gradients do not converge and the matrix fits in memory, the system is solved by Cholesky instead.

    Args:
        columns: the total number of right-hand sides to solve for.
    """
    factor = factorised(curvature, damping, columns)

    def direct(factor: Factorised | InEigenvectors, vectors: Tensor) -> Solution:
        return Solution(factor.solve(vectors), factor.convergence)

    precondition = preconditioner(curvature, damping) if factor is None else None

    def iterated(vectors: Tensor) -> Solution:
        solution = conjugate_gradient(curvature, damping, vectors, precondition=precondition)
        if not solution.convergence.converged and 16 * curvature.dimension**2 <= FACTOR_BYTES:
            return direct(Factorised(curvature, damping), vectors)
        return solution

    return iterated if factor is None else partial(direct, factor)


def largest_eigenvalue(curvature: Curvature, device: torch.device, products: int = 10) -> float:
    """The Lanczos estimate of λmax(C), a little below the true value.

    Every basis vector is made orthogonal to all before it, so that no eigenvalue is found twice.

    Args:
        products: how many products with C it may take.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(curvature.dimension, generator=generator, dtype=torch.float64).to(device)
    basis = [vector / vector.norm()]
    diagonal, beside = [], []
    for _ in range(min(products, curvature.dimension)):
        vector = curvature.matvec(basis[-1])
        diagonal.append(float(vector @ basis[-1]))
        before = torch.stack(basis)
        vector = vector - before.T @ (before @ vector)
        vector = vector - before.T @ (before @ vector)  # once more: the first time leaves rounding behind
        length = float(vector.norm())
        if length <= 1e-12 * max(diagonal):
            break
        beside.append(length)
        basis.append(vector / length)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    between = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    small += torch.diag(between, 1) + torch.diag(between, -1)
    return float(torch.linalg.eigvalsh(small)[-1])


def neumann(
    curvature: Curvature,
    damping: float,
    vectors: Tensor,
    *,
    scale: float,
    damping_sign: int,
    iterations: int,
    tolerance: float | None,
) -> Solution:
    """LiSSA's recursion with the full-data curvature: r ← αv + r − α(C + sλI)r, from r = αv (Agarwal et al. 2017).

    The fixed point of the recursion is (C + sλI)⁻¹ v. With s = −1, α = 1, ten iterations and no tolerance, the
    recursion is the one of the reference engine, which damps with the wrong sign.

    Args:
        scale: α. With s = +1 the recursion converges if α is below 1/(λmax + λ).
        damping_sign: s.
        tolerance: stop when |αv − α(C + sλI)r| / |αv| is below this number for every v. None runs all iterations.
    """
    start = scale * vectors
    size = start.norm(dim=0).clamp_min(1e-300)
    estimate = start.clone()
    done = 0
    while done < iterations:
        change = start - scale * (curvature.matvec(estimate) + damping_sign * damping * estimate)
        estimate += change
        done += 1
        if tolerance is not None and float((change.norm(dim=0) / size).max()) < tolerance:
            break
    change = start - scale * (curvature.matvec(estimate) + damping_sign * damping * estimate)
    relative = float((change.norm(dim=0) / size).max())
    dimension = curvature.dimension
    return Solution(estimate, Convergence.iterated("neumann", damping, done, relative, tolerance or 1e-2, dimension))
