"""Influence functions on a reference set: I_i = −ḡᵀ (C + λI)⁻¹ g_i, by four ways of treating the inverse.

For each gradient block separately, ḡ is the mean reference gradient; the blocks' influences are summed (Kwon et al.,
ICLR 2024, section 3). Up-weighting a sample with positive I_i raises the reference loss, so higher = more harmful
(Koh & Liang, ICML 2017, section 2.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
    from harness.interfaces.view import View
    from methods._solvers import Solver

REFERENCE_CHUNK = 64
"""Reference gradients solved for at a time in `attribute`, at most."""

CANCELLED = 1e-3
"""Share of |v| below which DataInf's difference is taken again in float64."""

SPECTRAL_DIMENSION = 2048
"""LiSSA takes its steps in the eigenvectors of F up to so many samples or parameters, and by gradients beyond."""


def check_damping(damping: float | str) -> None:
    """Raise ValueError unless λ is positive or ``auto``."""
    if not isinstance(damping, str) and not damping > 0:
        raise ValueError(f"damping={damping} must be a positive number, or auto for mean(g²)/10")


def check_recursion(iterations: int, scale: float | str) -> None:
    """Raise ValueError unless LiSSA's recursion has a step to take and a positive scale."""
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    if not isinstance(scale, str) and not scale > 0:
        raise ValueError(f"scale={scale} must be a positive number, or auto")


def means(block: Block) -> Tensor:
    """Weights with which a block's gradients add up to their mean, (n,)."""
    import torch

    return torch.full((block.n,), 1 / block.n, dtype=torch.float64, device=block.rows(slice(0)).device)


@dataclass(frozen=True)
class Influence(Method):
    """Influence of each training sample on a reference set's loss.

    Args:
        reference: whose loss counts: clean ``validation`` samples, ``noisy_validation``, ``train`` (at a trained
            optimum its mean gradient is about zero), or an attribution task's ``test`` samples.
        sign: 1 takes positive influence as harmful, which is what it is; −1 takes negative influence, which is how
            Eq. (2) of the paper is printed and how the published baselines were run.
        layers: whose gradients count: ``all``, the ``last`` layer's, or those that a glob over gradient blocks names.
        class_mean: in attributions, give every training sample the mean influence of its class, which outlier analysis
            does by its nature.
    """

    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train", "sign": -1}}

    precise: ClassVar[bool] = False
    """Whether solutions are multiplied with the gradients in float64: an exact inverse divides what no gradient has by
    λ, and single precision would let a part of it count."""

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"
    sign: Literal[1, -1] = 1
    layers: str = "all"
    class_mean: bool = False

    @property
    def uses(self) -> tuple[str, ...]:
        sees = {"validation": "clean validation", "noisy_validation": "noisy validation"}
        return ("labels", "gradients", *([sees[self.reference]] if self.reference in sees else []))

    @abstractmethod
    def inverse(self, block: Block, columns: int) -> Solver:
        """The way to solve (C + λI) u = v for (p, m) vectors of one block, or what stands for it, float64.

        Args:
            columns: how many vectors it will be asked for in all.
        """

    def score(self, view: View) -> np.ndarray:
        import torch

        if self.class_mean:
            raise Unsupported("class_mean=yes is for attributions; this task asks for one score per training sample")
        reference = view.reference(self.reference, self.layers)
        total = torch.zeros(view.n, dtype=torch.float64)
        for name, block in view.gradients_of(self.layers).items():
            ref = reference.gradients[name]
            solution = self.inverse(block, 1)(ref.rmatvec(means(ref).unsqueeze(1)))
            view.health[name] = solution.convergence.as_health()
            total -= block.matvec(solution.values, precise=self.precise)[:, 0].cpu()
        return self.sign * total.numpy()

    def attribute(self, view: View) -> np.ndarray:
        influence = self.sign * self.pairwise(view)
        if self.class_mean:
            classes = view.classes
            for c in np.unique(classes):
                influence[:, classes == c] = influence[:, classes == c].mean(axis=1, keepdims=True)
        return influence

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
    """An influence method with a damping.

    Args:
        damping: λ, or ``auto`` for mean(g²)/10 over a block's elements and samples.
    """

    damping: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_damping(self.damping)


@register_method
@dataclass(frozen=True)
class DataInf(Damped):
    """The inverse of the mean replaced by the mean of inverses, which has a closed form:
    u = (1/(nλ)) Σ_k [v − (v·g_k)/(λ + |g_k|²) g_k].
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
                    break  # else gradients are so parallel that float32 leaves little
            return Solution(left / damping, Convergence(damping=damping))

        return solve


@register_method
@dataclass(frozen=True)
class LiSSA(Damped):
    """The inverse by LiSSA's recursion on the outer-product matrix of all samples, r ← αv + r − α(F + sλI)r.

    Args:
        iterations: at most so many.
        tolerance: stop at this relative residual; ``none`` runs all iterations.
        scale: α; ``auto`` is 1/(1.1 λmax + λ), which converges.
        damping_sign: s; −1 is the reference engine's slip, with which directions of eigenvalue below λ grow.
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
        """T iterations resolve conditions up to about T, where float32's products leave a residual of about 1e-7 T."""
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
    """The inverse solved for: (C + λI) u = v by Cholesky, by eigenvectors where samples are far fewer than parameters,
    and by conjugate gradients where there are very many of both.

    Args:
        hessian: ``exact`` is the true Hessian, known of a last layer; ``outer_product`` is F, which the published
            "Exact Hessian" row used and which any gradient block has; ``auto`` is the first where it is known and the
            second for other blocks.
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
