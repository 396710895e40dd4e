"""Influence functions on a reference set: I_i = −ḡᵀ (C + λI)⁻¹ g_i, with several approximations of the inverse.

ḡ is the mean gradient of the reference samples. Influences are computed for each gradient block separately and then
summed (Kwon et al., ICLR 2024, section 3). More weight on a sample with positive I_i raises the reference loss, so
higher = more harmful (Koh & Liang, ICML 2017, section 2.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.selection.registry import register_method
from methods._reference import ReferenceMethod

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
    from harness.interfaces.view import View
    from methods._solvers import Solver

REFERENCE_CHUNK = 64
"""Largest number of reference gradients that `attribute` solves for at one time."""

CANCELLED = 1e-3
"""If the norm of DataInf's difference is below this share of |v|, the difference is computed again in float64."""

SPECTRAL_DIMENSION = 2048
"""If min(n, p) is at most this number, LiSSA iterates in the eigenvectors of F; otherwise with the gradients."""


def check_damping(damping: float | str) -> None:
    """Raise ValueError unless λ is positive or a word."""
    if not isinstance(damping, str) and not damping > 0:
        raise ValueError(f"damping={damping} must be a positive number, or auto for mean(g²)/10")


def check_recursion(iterations: int, scale: float | str) -> None:
    """Raise ValueError unless LiSSA's recursion has at least one iteration and a positive scale."""
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    if not isinstance(scale, str) and not scale > 0:
        raise ValueError(f"scale={scale} must be a positive number, or auto")


def means(block: Block) -> Tensor:
    """The weights 1/n, (n,). The sum of a block's gradients with these weights is the mean gradient."""
    import torch

    return torch.full((block.n,), 1 / block.n, dtype=torch.float64, device=block.rows(slice(0)).device)


@dataclass(frozen=True)
class Influence(ReferenceMethod):
    """Influence of each training sample on a reference set's loss, by one linear system for each gradient block."""

    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train", "sign": -1}}

    precise: ClassVar[bool] = False
    """Whether solutions are multiplied with the gradients in float64.

    An exact inverse divides by λ the part of v that is orthogonal to all gradients. In float32, rounding errors would
    let this large part change the influence.
    """

    @abstractmethod
    def inverse(self, block: Block, columns: int) -> Solver:
        """A solver of (C + λI) u = v, or of an approximation, for (p, m) float64 vectors of one block.

        Args:
            columns: the total number of vectors to solve for.
        """

    def score(self, view: View) -> np.ndarray:
        import torch

        self.refuse_class_mean()
        reference = view.reference(self.reference, self.layers)
        total = torch.zeros(view.n, dtype=torch.float64)
        for name, block in view.gradients_of(self.layers).items():
            ref = reference.gradients[name]
            solution = self.inverse(block, 1)(ref.rmatvec(means(ref).unsqueeze(1)))
            view.health[name] = solution.convergence.as_health()
            total -= block.matvec(solution.values, precise=self.precise)[:, 0].cpu()
        return self.sign * total.numpy()

    def pairwise(self, view: View) -> np.ndarray:
        """The influence of every training sample on every reference sample, (n_reference, n)."""
        import torch

        from harness.gradients.products import CHUNK_BYTES, chunks
        from methods._convergence import Convergence

        reference = view.reference(self.reference, self.layers)
        total = torch.zeros(reference.n, view.n, dtype=torch.float64)
        for name, block in view.gradients_of(self.layers).items():
            solve, convergence = self.inverse(block, reference.n), Convergence()
            for rows in chunks(reference.n, max(8 * 6 * block.dimension, CHUNK_BYTES // REFERENCE_CHUNK)):
                solution = solve(reference.gradients[name].rows(rows, precise=True).T)
                convergence = convergence.worst(solution.convergence)
                total[rows] -= block.matvec(solution.values, precise=self.precise).T.cpu()
            view.health[name] = convergence.as_health()
        return np.asarray(total.numpy())


@dataclass(frozen=True)
class Damped(Influence):
    """Base of the influence methods that add a damping λ to the curvature matrix.

    Args:
        damping: λ. ``auto`` is mean(g²)/10, the mean over all samples and all gradient elements of a block.
            ``penalty`` is λ of the L2 penalty in the training loss: then C + λI is the Hessian of the loss that was
            minimised.
    """

    damping: float | Literal["auto", "penalty"] = "auto"

    def __post_init__(self) -> None:
        check_damping(self.damping)

    def score(self, view: View) -> np.ndarray:
        if self.damping == "penalty":
            return replace(self, damping=view.penalty).score(view)
        return super().score(view)

    def pairwise(self, view: View) -> np.ndarray:
        if self.damping == "penalty":
            return replace(self, damping=view.penalty).pairwise(view)
        return super().pairwise(view)


@register_method
@dataclass(frozen=True)
class DataInf(Damped):
    """Influence by DataInf: the inverse of the mean matrix is replaced by the mean of the samples' inverse matrices.

    This mean has a closed form: u = (1/(nλ)) Σ_k [v − (v·g_k)/(λ + |g_k|²) g_k].
    """

    name: ClassVar[str] = "datainf"
    title: ClassVar[str] = "DataInf"
    source: ClassVar[str] = "Kwon et al., ICLR 2024, Eq. (5)"

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._convergence import Convergence, Solution
        from methods._solvers import damping_of

        squared = block.squared_norms(precise=False)
        damping = damping_of(block, self.damping, squared)
        shrinkage = (damping + squared).unsqueeze(1)

        def solve(v: Tensor) -> Solution:
            left = v
            for precise in (False, True):
                left = v - block.rmatvec(block.matvec(v, precise) / shrinkage, precise) / block.n
                if bool((left.norm(dim=0) >= CANCELLED * v.norm(dim=0)).all()):
                    break  # otherwise nearly parallel gradients cancel, and float32 would lose most digits
            return Solution(left / damping, Convergence(damping=damping))

        return solve


@register_method
@dataclass(frozen=True)
class LiSSA(Damped):
    """Influence by LiSSA: the inverse is approximated by the recursion r ← αv + r − α(F + sλI)r.

    F is the outer-product matrix of all samples.

    Args:
        iterations: the largest number of iterations.
        tolerance: the recursion stops at this relative residual. ``none`` runs all iterations.
        scale: α. ``auto`` is 1/(1.1 λmax + λ), with which the recursion converges for s = 1.
        damping_sign: s. −1 reproduces an error of the reference engine: directions with an eigenvalue below λ grow.
    """

    name: ClassVar[str] = "lissa"
    title: ClassVar[str] = "LiSSA"
    source: ClassVar[str] = "Koh & Liang, ICML 2017, section 3; Agarwal et al., JMLR 2017"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "reference": "train",
            "sign": -1,
            "damping_sign": -1,
            "scale": 1.0,
            "iterations": 10,
            "tolerance": None,
        }
    }

    iterations: int = 2000
    tolerance: float | None = 1e-3
    scale: float | Literal["auto"] = "auto"
    damping_sign: Literal[1, -1] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_recursion(self.iterations, self.scale)

    @property
    def _needs_float64(self) -> bool:
        """Whether float32 products are too inexact for the tolerance.

        T iterations solve systems with condition numbers up to about T. There, float32 products leave a relative
        residual of about 1e-7 T.
        """
        return self.tolerance is not None and 1e-7 * self.iterations > self.tolerance

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._convergence import Solution
        from methods._curvature import Curvature, OuterProduct
        from methods._solvers import damping_of, largest_eigenvalue, neumann
        from methods._spectral import Spectrum

        damping, curvature = damping_of(block, self.damping), OuterProduct(block, precise=self._needs_float64)
        spectrum = None
        if min(block.n, block.dimension) <= min(4 * self.iterations, SPECTRAL_DIMENSION):
            spectrum = Spectrum.of(block)  # about n p min(n, p) operations once, and p instead of 4 n p an iteration
        if not isinstance(self.scale, str):
            scale = self.scale
        elif spectrum is not None:
            scale = 1 / (1.1 * float(spectrum.values.max()) + damping)
        else:
            scale = 1 / (1.1 * largest_eigenvalue(curvature, block.squared_norms().device) + damping)

        def recursion(operator: Curvature, vectors: Tensor) -> Solution:
            return neumann(
                operator,
                damping,
                vectors,
                scale=scale,
                damping_sign=self.damping_sign,
                iterations=self.iterations,
                tolerance=self.tolerance,
            )

        return partial(recursion, curvature) if spectrum is None else partial(spectrum.apply, recursion)


@register_method
@dataclass(frozen=True)
class ExactHessian(Damped):
    """Influence with the exact inverse: (C + λI) u = v is solved without a closed-form approximation.

    The solver is Cholesky, eigenvectors (if samples are far fewer than parameters), or conjugate gradients (if both
    numbers are very large).

    Args:
        hessian: ``exact`` is the true Hessian, available for last layers only. ``outer_product`` is F, available for
            every gradient block and used for the published "Exact Hessian" row. ``auto`` is ``exact`` where possible,
            else ``outer_product``.
    """

    name: ClassVar[str] = "exact_hessian"
    title: ClassVar[str] = "Exact Hessian"
    precise: ClassVar[bool] = True
    source: ClassVar[str] = "Cook & Weisberg 1982; Koh & Liang, ICML 2017"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"reference": "train", "sign": -1, "hessian": "outer_product"}
    }

    hessian: Literal["auto", "exact", "outer_product"] = "auto"

    def inverse(self, block: Block, columns: int) -> Solver:
        from methods._curvature import curvature_of
        from methods._solvers import damping_of, solver

        return solver(curvature_of(block, self.hessian), damping_of(block, self.damping), columns)
