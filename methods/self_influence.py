"""Self-influence: how much a sample's own loss depends on it, g_iᵀ (C + λI)⁻¹ g_i, higher = more suspicious.

(Bejan et al. 2023 and Thakkar et al. 2023 detect mislabelled samples by it.) The matrix C is the training set's. The
published Self-DataInf and Self-LiSSA rows came from running each sample alone instead, so that C = g_i g_iᵀ; that is
``curvature="sample"``: Self-DataInf is then the same number 10p/(10p + 1) for every sample, and its ranking rounding
noise.
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
"""n²p of a block whose samples are solved for by conjugate gradients: 4 × 10¹¹ operations an iteration."""
CANCELLED = 1e-3
"""Share of |g|² below which a difference is taken in float64."""


@dataclass(frozen=True)
class SelfInfluence(Method):
    """Base of the self-influence methods.

    Args:
        damping: λ, or ``auto`` for mean(g²)/10 over a block's elements and samples.
        layers: whose gradients count: ``all``, the ``last`` layer's, as published for text encoders, or those that a
            glob over gradient blocks names.
    """

    damping: float | Literal["auto"] = "auto"
    layers: str = "all"

    def __post_init__(self) -> None:
        check_damping(self.damping)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def block_score(self, block: Block) -> tuple[Tensor, Convergence]:
        """One block's share of the score, (n,) float64, and how well its systems were solved."""
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
    """Self-influence by one Cholesky factorisation, by eigenvectors where samples are far fewer than parameters, or by
    conjugate gradients: whichever takes the fewest operations and fits in memory.

    Args:
        hessian: as for exact_hessian: ``exact``, ``outer_product``, or ``auto``.
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
        from methods._solvers import conjugate_gradient, damping_of, factorised

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
        for chunk in parts:
            rows = block.rows(chunk, precise=True)
            solution = conjugate_gradient(curvature, damping, rows.T)
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
        curvature: the training set's matrix (``train``), or each ``sample`` alone, as the published row was made.
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
        if not bool((left >= CANCELLED * squared).all()):  # gradients so parallel that float32 leaves little
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
    """Self-influence with LiSSA's recursion r ← αg + r − α(C + sλI)r in the place of the inverse.

    All samples share the matrix polynomial P_T(F) = Σ_k α(I − αA)^k, k = 0 … T, that T iterations amount to. It is
    applied through the eigenvalues of F, or of the n × n Gram matrix, whichever is smaller.

    Args:
        curvature: the training set's matrix (``train``), or each ``sample`` alone, as the published row was made.
        iterations: at most so many.
        tolerance: stop at this relative residual (spectral norm of (I − αA)^(T + 1)); ``none`` runs all iterations.
        scale: α; ``auto`` is 1/(1.1 λmax + λ), which converges.
        damping_sign: s; −1 is the reference engine's slip.
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
        """C = g gᵀ keeps r a multiple ρ of g, so the recursion is one of numbers: ρ ← α + ρ − α(|g|² + sλ)ρ."""
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
                f"self_lissa needs the samples or the parameters of a gradient block to number at most "
                f"{SERIES_DIMENSION}; here they are {block.n} and {block.dimension} (self_datainf has no such limit)"
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
        """As many as the slowest direction needs to come below the tolerance, at most `iterations`."""
        if self.tolerance is None or self.tolerance <= 0 or rate >= 1:
            return self.iterations
        if rate == 0:
            return 0
        return min(self.iterations, max(0, math.ceil(math.log(self.tolerance) / math.log(rate)) - 1))
