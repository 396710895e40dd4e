"""Curvature of a gradient block as an operator: the outer-product matrix F and the true last-layer Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.blocks import Block, OuterBlock
from harness.gradients.products import chunks


class Curvature(Protocol):
    """A symmetric positive semi-definite p × p operator, in float64."""

    @property
    def n(self) -> int:
        """The number of samples that the operator is averaged over."""

    @property
    def dimension(self) -> int:
        """p."""

    def matvec(self, vectors: Tensor) -> Tensor:
        """(p,) to (p,), or (p, m) to (p, m)."""

    def matrix(self) -> Tensor:
        """The dense (p, p) matrix, as a new tensor that the caller may overwrite."""


@dataclass(frozen=True)
class OuterProduct:
    """F = (1/n) Σ g_i g_iᵀ, the (empirical Fisher) outer-product matrix of a block.

    Args:
        precise: multiply in float64; see `harness.gradients.blocks`.
    """

    block: Block
    precise: bool = True

    @property
    def n(self) -> int:
        return self.block.n

    @property
    def dimension(self) -> int:
        return self.block.dimension

    def matvec(self, vectors: Tensor) -> Tensor:
        return self.block.rmatvec(self.block.matvec(vectors, self.precise), self.precise) / self.block.n

    def matrix(self) -> Tensor:
        p = self.dimension
        total: Tensor | None = None
        for index in chunks(self.block.n, 16 * p):
            rows = self.block.rows(index, precise=True)
            total = rows.T @ rows if total is None else total.addmm_(rows.T, rows)
        assert total is not None
        return total.div_(self.block.n)


def curvature_of(block: Block, kind: Literal["auto", "exact", "outer_product"]) -> Curvature:
    """The true Hessian (``exact``) or F (``outer_product``). ``auto`` is the true Hessian for a last layer, else F.

    Raises:
        Unsupported: ``exact`` for a block whose Hessian is not known.
    """
    known = isinstance(block, OuterBlock) and block.probs is not None
    return LastLayerHessian(block) if kind == "exact" or (kind == "auto" and known) else OuterProduct(block)


@dataclass(frozen=True)
class LastLayerHessian:
    """(1/n) Σ A_i ⊗ h_i h_iᵀ, the true Hessian of the mean cross-entropy in the last layer's parameters.

    A_i = diag(p_i) − p_i p_iᵀ for a softmax, p_i (1 − p_i) for one sigmoid output.

    Raises:
        Unsupported: the block is no last layer, or its output probabilities are not known.
    """

    block: Block

    def __post_init__(self) -> None:
        if not isinstance(self.block, OuterBlock) or self.block.probs is None:
            raise Unsupported(
                "the true Hessian is known for a last layer with its output probabilities only; "
                "use hessian=auto or outer_product for other gradient blocks"
            )

    @property
    def n(self) -> int:
        return self.block.n

    @property
    def dimension(self) -> int:
        return self.block.dimension

    def _parts(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.block, OuterBlock)
        assert self.block.probs is not None
        return self.block.probs, self.block.features

    def matvec(self, vectors: Tensor) -> Tensor:
        probs, features = self._parts()
        single = vectors.ndim == 1
        (n, c), d = probs.shape, features.shape[1]
        matrix = vectors.double().reshape(c, d, -1)
        m = matrix.shape[2]
        stacked = matrix.permute(1, 0, 2).reshape(d, c * m)
        out = torch.zeros(c * m, d, dtype=torch.float64, device=probs.device)
        for rows in chunks(n, 8 * (d + 2 * c * m), features.device.type == "cpu"):
            h, p = features[rows].double(), probs[rows].double().unsqueeze(2)
            z = (h @ stacked).view(-1, c, m)
            curved = p * (1 - p) * z if c == 1 else p * z - p * (p * z).sum(1, keepdim=True)
            out += curved.reshape(-1, c * m).T @ h
        flat = out.view(c, m, d).permute(0, 2, 1).reshape(c * d, m) / n
        return flat[:, 0] if single else flat

    def matrix(self) -> Tensor:
        probs, features = self._parts()
        (n, c), d = probs.shape, features.shape[1]
        out = torch.zeros(c, d, c, d, dtype=torch.float64, device=probs.device)
        for rows in chunks(n, 16 * d):
            h, p = features[rows].double(), probs[rows].double()
            for k in range(c):
                for j in range(k + 1):
                    weight = p[:, k] * ((1.0 if j == k else 0.0) - p[:, j])
                    out[k, :, j, :] += (h * weight.unsqueeze(1)).T @ h
        for k in range(c):
            for j in range(k):
                out[j, :, k, :] = out[k, :, j, :].T
        return out.view(c * d, c * d).div_(n)
