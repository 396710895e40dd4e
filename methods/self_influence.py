"""Self-influence: the effect of a sample on its own loss, g_iᵀ (C + λI)⁻¹ g_i, higher = more suspicious.

(Bejan et al. 2023 and Thakkar et al. 2023 detect mislabelled samples by self-influence.) The matrix C is the training
set's. For the published Self-DataInf and Self-LiSSA rows, C was computed from each sample alone:
C = g_i g_iᵀ. The setting ``curvature="sample"`` reproduces these rows. Self-DataInf is then the same number
10p/(10p + 1) for every sample, so rounding errors decide the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods.influence import check_damping, check_recursion

if TYPE_CHECKING:
    from torch import Tensor

    from harness.gradients.blocks import Block
    from harness.interfaces.view import View
    from methods._convergence import Convergence

SERIES_DIMENSION = 8192
MOST_WORK = 1e11
"""Largest n²p of a block that conjugate gradients solve for every sample: 4 × 10¹¹ operations per iteration."""
CANCELLED = 1e-3
"""If a sample's difference is below this share of |g|², the difference is computed again in float64."""


@dataclass(frozen=True)
class SelfInfluence(Method):
    """Base of the self-influence methods.

    Args:
        damping: λ, or ``auto`` for mean(g²)/10, the mean over all samples and all gradient elements of a block.
        layers: the layers to take gradients of: ``all``, ``last`` (as published for text encoders), or a glob over
            the names of gradient blocks.
    """

    damping: float | Literal["auto"] = "auto"
    layers: str = "all"

    def __post_init__(self) -> None:
        check_damping(self.damping)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        """One block's share of the score, (n,) float64, and the convergence record of its linear systems."""
        raise NotImplementedError

    def score(self, view: View) -> np.ndarray:
        total = np.zeros(view.n)
        for name, block in view.gradients_of(self.layers).items():
            share, convergence = self.block_score(block)
            view.health[name] = convergence.as_health()
            total += share.cpu().numpy()
        return total


@register_method
@dataclass(frozen=True)
class ExactSelfInfluence(SelfInfluence):
    """Self-influence with the exact inverse, by Cholesky factorisation, eigenvectors or conjugate gradients.

    The solver with the fewest operations that fits in memory is used.

    Args:
        hessian: ``exact`` is the true Hessian, available for last layers only. ``outer_product`` is F, available for
            every gradient block. ``auto`` is ``exact`` where possible, else ``outer_product``.
    """

    name: ClassVar[str] = "self_influence"
    title: ClassVar[str] = "Self-Influence (exact)"
    source: ClassVar[str] = "Koh & Liang, ICML 2017; Bejan et al., EMNLP 2023"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"layers": "last", "hessian": "outer_product"}}

    hessian: Literal["auto", "exact", "outer_product"] = "auto"

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        import torch

        from harness.gradients.products import chunks
        from methods._convergence import Convergence
        from methods._curvature import curvature_of
        from methods._solvers import conjugate_gradient, damping_of, factorised, preconditioner

        curvature = curvature_of(block, self.hessian)
        damping = damping_of(block, self.damping)
        parts = list(chunks(block.n, 8 * 6 * block.dimension))
        factor = factorised(curvature, damping, block.n)
        if factor is not None:
            scores = [factor.quadratic(block.rows(rows, precise=True)) for rows in parts]
            return torch.cat(scores), factor.convergence
        if block.n**2 * block.dimension > MOST_WORK:
            raise Unsupported(
                f"self_influence solves one system per sample: {block.n} systems of {block.dimension} unknowns are too "
                "many where one factorisation cannot solve them all (self_datainf has no such limit)"
            )
        scores, convergence = [], Convergence()
        precondition = preconditioner(curvature, damping)
        for chunk in parts:
            rows = block.rows(chunk, precise=True)
            solution = conjugate_gradient(curvature, damping, rows.T, precondition=precondition)
            convergence = convergence.worst(solution.convergence)
            scores.append((rows * solution.values.T).sum(1))
        return torch.cat(scores), convergence


def one_sample_damping(block: Block) -> Tensor:
    """The reference engine's λ when it is given one sample: |g_i|²/(10 p), (n,)."""
    return block.squared_norms() / (10 * block.dimension)


@register_method
@dataclass(frozen=True)
class SelfDataInf(SelfInfluence):
    """Self-influence by DataInf's closed form, (1/λ) [|g_i|² − (1/n) Σ_k (g_i·g_k)²/(λ + |g_k|²)].

    Args:
        curvature: ``train`` computes the matrix C from all training samples. ``sample`` computes C from each sample
            alone, as for the published row.
    """

    name: ClassVar[str] = "self_datainf"
    title: ClassVar[str] = "Self-DataInf"
    source: ClassVar[str] = "Kwon et al., ICLR 2024, applied to each sample itself"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"layers": "last", "curvature": "sample"}}

    curvature: Literal["train", "sample"] = "train"

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        import torch

        from methods._convergence import Convergence
        from methods._solvers import damping_of

        squared = block.squared_norms()
        if self.curvature == "sample":
            damping = one_sample_damping(block) if self.damping == "auto" else float(self.damping)
            return torch.nan_to_num(squared / (damping + squared), nan=0.0), Convergence()  # 0/0 for a zero gradient
        damping = damping_of(block, self.damping, squared)
        weights = torch.where(squared > 0, 1 / (damping + squared), 0.0)
        left = squared - self._shared(block, weights, precise=False) / block.n
        if not bool((left >= CANCELLED * squared).all()):  # nearly parallel gradients cancel in float32
            left = squared - self._shared(block, weights, precise=True) / block.n
        return left / damping, Convergence(damping=damping)

    @staticmethod
    def _shared(block: Block, weights: Tensor, precise: bool) -> Tensor:
        """Σ_k (g_i·g_k)² w_k for every i, (n,), each pair of samples taken once."""
        import torch

        from harness.gradients.products import chunks

        total = torch.zeros_like(weights)
        tiny = torch.finfo(torch.float64).tiny
        scale = weights.max().clamp_min(tiny)
        largest = float(block.squared_norms(precise=False).max().clamp_min(tiny))
        share = weights / scale
        parts = list(chunks(block.n, 4096, cached=True))
        for i, rows in enumerate(parts):
            for others in parts[: i + 1]:
                products = block.gram(rows, others, precise).div_(largest).square_()  # in [0, 1]
                total[rows] += products @ share[others].to(products.dtype)
                if others != rows:
                    total[others] += products.T @ share[rows].to(products.dtype)
        return total * scale * largest**2


@register_method
@dataclass(frozen=True)
class SelfLiSSA(SelfInfluence):
    """Self-influence by LiSSA: the inverse is approximated by the recursion r ← αg + r − α(C + sλI)r.

    T iterations equal the matrix polynomial P_T(F) = Σ_k α(I − αA)^k, k = 0 … T, with A = F + sλI. The polynomial is
    the same for all samples. It is applied through the eigenvalues of F or of the n × n Gram matrix, whichever is
    smaller.

    Args:
        curvature: ``train`` computes the matrix C from all training samples. ``sample`` computes C from each sample
            alone, as for the published row.
        iterations: the largest number of iterations.
        tolerance: the recursion stops at this relative residual (spectral norm of (I − αA)^(T + 1)). ``none`` runs
            all iterations.
        scale: α. ``auto`` is 1/(1.1 λmax + λ), with which the recursion converges for s = 1.
        damping_sign: s. −1 reproduces an error of the reference engine, which damps with the wrong sign.
    """

    name: ClassVar[str] = "self_lissa"
    title: ClassVar[str] = "Self-LiSSA"
    source: ClassVar[str] = "Bejan et al., EMNLP 2023; Koh & Liang, ICML 2017, section 3"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "layers": "last",
            "curvature": "sample",
            "damping_sign": -1,
            "scale": 1.0,
            "iterations": 10,
            "tolerance": None,
        }
    }

    curvature: Literal["train", "sample"] = "train"
    iterations: int = 4095
    tolerance: float | None = 1e-3
    scale: float | Literal["auto"] = "auto"
    damping_sign: Literal[1, -1] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_recursion(self.iterations, self.scale)

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        return self._alone(block) if self.curvature == "sample" else self._together(block)

    def _alone(self, block: Block) -> tuple[Tensor, Convergence]:
        """The recursion with C = g gᵀ. Here r = ρg with a number ρ, and ρ ← α + ρ − α(|g|² + sλ)ρ."""
        import torch

        from methods._convergence import Convergence

        squared = block.squared_norms()
        damping = one_sample_damping(block) if self.damping == "auto" else torch.full_like(squared, float(self.damping))
        eigenvalue = squared + self.damping_sign * damping
        scale = 1 / (squared + damping).clamp_min(1e-300) if self.scale == "auto" else float(self.scale)
        rho = torch.ones_like(squared) * scale
        for _ in range(self.iterations):
            rho = scale + rho - scale * eigenvalue * rho
        residual = float((1 - eigenvalue * rho)[squared > 0].abs().max()) if bool((squared > 0).any()) else 0.0
        extremes = [float(damping.min()), float(damping.max())]
        convergence = Convergence.iterated(None, extremes, self.iterations, residual, self.tolerance or 1e-2)
        return torch.where(squared > 0, rho * squared, torch.zeros_like(squared)), convergence

    def _together(self, block: Block) -> tuple[Tensor, Convergence]:
        import torch

        from harness.gradients.products import chunks
        from methods._convergence import Convergence
        from methods._curvature import OuterProduct
        from methods._solvers import damping_of

        m = min(block.n, block.dimension)
        if m > SERIES_DIMENSION:
            raise Unsupported(
                f"self_lissa needs a gradient block with at most {SERIES_DIMENSION} samples or parameters; this "
                f"block has {block.n} samples and {block.dimension} parameters (self_datainf has no such limit)"
            )
        dual = block.n < block.dimension
        damping = damping_of(block, self.damping)
        whole = slice(0, block.n)
        matrix = block.gram(whole, whole) / block.n if dual else OuterProduct(block).matrix()
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        eigenvalues = eigenvalues.clamp_min(0)
        scale = self.scale
        if isinstance(scale, str):
            scale = 1 / (1.1 * float(eigenvalues[-1]) + damping)
        damped = eigenvalues + self.damping_sign * damping
        rates = 1 - scale * damped
        done = self._iterations(float(rates.abs().max()))
        residual = float((rates ** (done + 1)).abs().max())
        convergence = Convergence.iterated(None, damping, done, residual, self.tolerance or 1e-2)
        # Σ_k αr^k for k = 0 … T, as a difference that keeps its digits where r is near 1
        exponent = (done + 1) * torch.log1p(-scale * damped)
        grown = torch.where(rates > 0, -torch.expm1(exponent), 1 - rates ** (done + 1))
        series = torch.where(damped != 0, grown / damped, scale * (done + 1))
        if dual:  # gᵢᵀ P(F) gᵢ = n [K P(K)]ᵢᵢ with K = G Gᵀ / n
            return torch.mv(vectors.square(), block.n * eigenvalues * series), convergence
        scores = []
        for rows in chunks(block.n, 8 * 3 * block.dimension):
            scores.append((block.rows(rows, precise=True) @ vectors).square() @ series)
        return torch.cat(scores), convergence

    def _iterations(self, rate: float) -> int:
        """The iterations that the slowest direction needs to reach the tolerance, at most ``iterations``."""
        if self.tolerance is None or self.tolerance <= 0 or rate >= 1:
            return self.iterations
        if rate == 0:
            return 0
        return min(self.iterations, max(0, math.ceil(math.log(self.tolerance) / math.log(rate)) - 1))
