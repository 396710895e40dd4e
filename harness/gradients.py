"""Per-sample gradients as operators: blocks that answer products and norms without building the n × p matrix.

Two kinds of block offer the same operations. `OuterBlock` is a last layer, whose gradient for sample i is
``vec(e_i h_iᵀ)`` (class-major, as ``Linear.weight.grad.flatten()``): everything comes from the residuals e and the
features h. `DenseBlock` holds any gradients as an n × p matrix, a LoRA matrix say. Values are stored as given (usually
float32); products are accumulated in float64, a bounded chunk of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""Working memory of one chunk of rows; results do not depend on it beyond float64 rounding."""


class Block(Protocol):
    """The operations that methods are written against; G is the n × p matrix of the block's gradients."""

    @property
    def n(self) -> int:
        """Number of samples."""

    @property
    def dimension(self) -> int:
        """Number of parameters p."""

    def norm(self, order: int) -> Tensor:
        """L1 or L2 norm of each sample's gradient, (n,)."""

    def squared_norms(self) -> Tensor:
        """|g_i|², (n,)."""

    def matvec(self, vectors: Tensor) -> Tensor:
        """G v: (p,) to (n,), or (p, m) to (n, m)."""

    def rmatvec(self, weights: Tensor) -> Tensor:
        """Gᵀ w: (n,) to (p,), or (n, m) to (p, m)."""

    def gram(self, rows: slice | None = None) -> Tensor:
        """G[rows] Gᵀ, (r, n)."""

    def rows(self, index: Any) -> Tensor:
        """The gradients of some samples as dense rows, (r, p)."""

    def columns(self, index: Any) -> Tensor:
        """Some parameters' gradients of all samples, (n, k)."""


def _chunks(n: int, width: int) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // (8 * max(1, width)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _as_matrix(values: Tensor) -> tuple[Tensor, bool]:
    return (values.double().unsqueeze(1), True) if values.ndim == 1 else (values.double(), False)


@dataclass(frozen=True, eq=False)
class OuterBlock:
    """Gradients of a last layer, ``g_i = vec(e_i h_iᵀ)``, p = c·d.

    Args:
        residuals: e = p − onehot(y), (n, c); one column for a sigmoid output.
        features: h, the last layer's input, (n, d); a column of ones stands for the bias.
        probs: the outputs the residuals came from, (n, c); needed for the true Hessian only.
    """

    residuals: Tensor
    features: Tensor
    probs: Tensor | None = None

    @property
    def n(self) -> int:
        return self.residuals.shape[0]

    @property
    def dimension(self) -> int:
        return self.residuals.shape[1] * self.features.shape[1]

    def norm(self, order: int) -> Tensor:
        return _row_norms(self.residuals, order) * _row_norms(self.features, order)

    def squared_norms(self) -> Tensor:
        return self.norm(2).square()

    def matvec(self, vectors: Tensor) -> Tensor:
        matrix, single = _as_matrix(vectors)
        c, d, m = self.residuals.shape[1], self.features.shape[1], matrix.shape[1]
        stacked = matrix.reshape(c, d, m).permute(1, 0, 2).reshape(d, c * m)
        out = torch.empty(self.n, m, dtype=torch.float64, device=matrix.device)
        for part in _chunks(self.n, d + c * m):
            products = (self.features[part].double() @ stacked).view(-1, c, m)
            out[part] = (products * self.residuals[part].double().unsqueeze(2)).sum(1)
        return out[:, 0] if single else out

    def rmatvec(self, weights: Tensor) -> Tensor:
        matrix, single = _as_matrix(weights)
        c, d, m = self.residuals.shape[1], self.features.shape[1], matrix.shape[1]
        out = torch.zeros(c * m, d, dtype=torch.float64, device=matrix.device)
        for part in _chunks(self.n, d + c * m):
            weighted = self.residuals[part].double().unsqueeze(2) * matrix[part].unsqueeze(1)
            out += weighted.reshape(-1, c * m).T @ self.features[part].double()
        flat = out.view(c, m, d).permute(0, 2, 1).reshape(c * d, m)
        return flat[:, 0] if single else flat

    def gram(self, rows: slice | None = None) -> Tensor:
        part = slice(None) if rows is None else rows
        residuals, features = self.residuals.double(), self.features.double()
        return (residuals[part] @ residuals.T) * (features[part] @ features.T)

    def rows(self, index: Any) -> Tensor:
        return (self.residuals[index].unsqueeze(2) * self.features[index].unsqueeze(1)).flatten(1)

    def columns(self, index: Any) -> Tensor:
        index = torch.as_tensor(index, device=self.features.device)
        d = self.features.shape[1]
        return self.residuals[:, index // d] * self.features[:, index % d]


@dataclass(frozen=True, eq=False)
class DenseBlock:
    """Gradients held as a matrix.

    Args:
        values: (n, …); trailing dimensions are flattened.
    """

    values: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.values.flatten(1))

    @property
    def n(self) -> int:
        return self.values.shape[0]

    @property
    def dimension(self) -> int:
        return self.values.shape[1]

    def norm(self, order: int) -> Tensor:
        return _row_norms(self.values, order)

    def squared_norms(self) -> Tensor:
        return self.norm(2).square()

    def matvec(self, vectors: Tensor) -> Tensor:
        matrix, single = _as_matrix(vectors)
        out = torch.cat([self.values[part].double() @ matrix for part in _chunks(self.n, self.dimension)])
        return out[:, 0] if single else out

    def rmatvec(self, weights: Tensor) -> Tensor:
        matrix, single = _as_matrix(weights)
        out = torch.zeros(self.dimension, matrix.shape[1], dtype=torch.float64, device=matrix.device)
        for part in _chunks(self.n, self.dimension):
            out += self.values[part].double().T @ matrix[part]
        return out[:, 0] if single else out

    def gram(self, rows: slice | None = None) -> Tensor:
        left = self.values[slice(None) if rows is None else rows].double()
        return torch.cat([left @ self.values[part].double().T for part in _chunks(self.n, self.dimension)], dim=1)

    def rows(self, index: Any) -> Tensor:
        return self.values[index]

    def columns(self, index: Any) -> Tensor:
        return self.values[:, torch.as_tensor(index, device=self.values.device)]


def _row_norms(values: Tensor, order: int) -> Tensor:
    parts = [values[part].double().norm(order, dim=1) for part in _chunks(values.shape[0], values.shape[1])]
    return torch.cat(parts) if parts else values.new_zeros(0, dtype=torch.float64)


class Gradients(Mapping[str, Block]):
    """A sample's gradient in named blocks (one a layer); influence is computed block by block and summed.

    Raises:
        ValueError: no block, or blocks of different numbers of samples.
    """

    def __init__(self, blocks: Mapping[str, Block]) -> None:
        counts = {name: block.n for name, block in blocks.items()}
        if not counts or len(set(counts.values())) != 1:
            raise ValueError(f"gradient blocks need one common number of samples; given {counts or 'no block'}")
        self._blocks = dict(blocks)

    def __getitem__(self, name: str) -> Block:
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def n(self) -> int:
        """Number of samples."""
        return next(iter(self._blocks.values())).n

    @property
    def dimension(self) -> int:
        """Number of parameters over all blocks."""
        return sum(block.dimension for block in self._blocks.values())

    def norm(self, order: int) -> np.ndarray:
        """L1 or L2 norm of each sample's whole gradient, (n,)."""
        total = torch.stack([block.norm(order) ** order for block in self._blocks.values()]).sum(0)
        return np.asarray((total ** (1 / order)).cpu().numpy())

    def rows(self, index: Any) -> Tensor:
        """Whole gradients of some samples as dense rows, (r, p), blocks side by side."""
        return torch.cat([block.rows(index) for block in self._blocks.values()], dim=1)

    def project(self, matrix: Any) -> np.ndarray:
        """G Rᵀ for a sparse (k, p) scipy matrix R, as float64 (n, k); G is built a bounded chunk at a time."""
        parts = [
            np.asarray((matrix @ self.rows(part).cpu().numpy().T).T) for part in _chunks(self.n, 2 * self.dimension)
        ]
        return np.concatenate(parts)
