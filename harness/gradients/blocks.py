"""Per-sample gradients as operators: blocks that answer products and norms without building the n × p matrix.

Two kinds of block offer the same operations. `OuterBlock` is a last layer: the gradient of sample i is
``vec(e_i h_iᵀ)`` (class-major, as ``Linear.weight.grad.flatten()``). All operations of `OuterBlock` use only the
residuals e and the features h. `DenseBlock` holds any gradients, such as those of a LoRA matrix, as an n × p matrix.

Values are stored as given, usually in float32. Results are float64. Each operation processes one bounded chunk of
rows at a time. By default the operations compute in float64. With ``precise=False``, an operation multiplies in the
stored precision (float32 at least) and adds the results of the chunks in float64. ``precise=False`` is three to five
times as fast as float64, with errors of about 1e-6 of the largest term.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.gradients.products import chunks, times, transposed_times


class Block(Protocol):
    """The operations that methods are written against; G is the n × p matrix of the block's gradients."""

    @property
    def n(self) -> int:
        """Number of samples."""

    @property
    def dimension(self) -> int:
        """Number of parameters p."""

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the stored values."""

    def norm(self, order: int, precise: bool = True) -> Tensor:
        """L1 or L2 norm of each sample's gradient, (n,)."""

    def squared_norms(self, precise: bool = True) -> Tensor:
        """|g_i|², (n,)."""

    def matvec(self, vectors: Tensor, precise: bool = True) -> Tensor:
        """G v: (p,) to (n,), or (p, m) to (n, m)."""

    def rmatvec(self, weights: Tensor, precise: bool = True) -> Tensor:
        """Gᵀ w: (n,) to (p,), or (n, m) to (p, m)."""

    def inner(self, other: Block, precise: bool = True) -> Tensor:
        """G Hᵀ with another block H of the same parameters, (n, H.n)."""

    def gram(self, rows: slice, others: slice, precise: bool = True) -> Tensor:
        """G[rows] G[others]ᵀ, (r, s)."""

    def rows(self, index: Any, precise: bool = False) -> Tensor:
        """The gradients of some samples as dense rows, (r, p), in the stored precision, or multiplied in float64."""

    def columns(self, index: Any) -> Tensor:
        """Some parameters' gradients of all samples, (n, k)."""

    def entries(self, columns: Tensor, which: Tensor) -> Tensor:
        """For sample i the numbers G[i, columns[which[i, j]]]: (k,) and (n, t) int64 to (n, t), in the stored dtype."""

    def part(self, index: Any) -> Block:
        """The same block of some samples, by a slice or positions."""

    def to(self, device: str) -> Block:
        """The same block on a device."""


@dataclass(frozen=True)
class _Operand:
    """The right-hand side of a product as a matrix; `result` restores the form in which the values were given.

    Below float64, each column is scaled to a largest absolute entry of 1, so that no column over- or underflows.
    """

    matrix: Tensor
    scale: Tensor | None
    single: bool

    @classmethod
    def of(cls, values: Tensor, dtype: torch.dtype) -> _Operand:
        matrix = values.double().unsqueeze(1) if values.ndim == 1 else values.double()
        if dtype == torch.float64:
            return cls(matrix, None, values.ndim == 1)
        scale = matrix.abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
        return cls((matrix / scale).to(dtype), scale, values.ndim == 1)

    def result(self, product: Tensor) -> Tensor:
        scaled = product.double() if self.scale is None else product.double() * self.scale
        return scaled[:, 0] if self.single else scaled


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

    @property
    def dtype(self) -> torch.dtype:
        return self.features.dtype

    def norm(self, order: int, precise: bool = True) -> Tensor:
        return _row_norms(self.residuals, order, precise) * _row_norms(self.features, order, precise)

    def squared_norms(self, precise: bool = True) -> Tensor:
        return self.norm(2, precise).square()

    def matvec(self, vectors: Tensor, precise: bool = True) -> Tensor:
        dtype = _working(self.dtype, precise)
        operand = _Operand.of(vectors, dtype)
        c, d, m = self.residuals.shape[1], self.features.shape[1], operand.matrix.shape[1]
        stacked = operand.matrix.reshape(c, d, m).permute(1, 0, 2).reshape(d, c * m)
        out = torch.empty(self.n, m, dtype=dtype, device=stacked.device)
        for rows in self._chunks(dtype, m):
            products = times(self.features[rows].to(dtype), stacked).view(-1, c, m)
            out[rows] = torch.einsum("ncm,nc->nm", products, self.residuals[rows].to(dtype))
        return operand.result(out)

    def rmatvec(self, weights: Tensor, precise: bool = True) -> Tensor:
        dtype = _working(self.dtype, precise)
        operand = _Operand.of(weights, dtype)
        c, d, m = self.residuals.shape[1], self.features.shape[1], operand.matrix.shape[1]
        out = torch.zeros(c * m, d, dtype=torch.float64, device=operand.matrix.device)
        for rows in self._chunks(dtype, m):
            weighted = self.residuals[rows].to(dtype).unsqueeze(2) * operand.matrix[rows].unsqueeze(1)
            out += transposed_times(weighted.reshape(-1, c * m), self.features[rows].to(dtype))
        return operand.result(out.view(c, m, d).permute(0, 2, 1).reshape(c * d, m))

    def _chunks(self, dtype: torch.dtype, m: int) -> Iterator[slice]:
        d, produced = self.features.shape[1], 2 * self.residuals.shape[1] * m
        if dtype == self.dtype:
            return chunks(self.n, dtype.itemsize * produced)
        return chunks(self.n, dtype.itemsize * (d + produced), self.features.device.type == "cpu")

    def inner(self, other: Block, precise: bool = True) -> Tensor:
        if not isinstance(other, OuterBlock):
            return DenseBlock(self.rows(slice(None))).inner(other, precise)
        dtype = _working(self.dtype, precise)
        residuals = self.residuals.to(dtype) @ other.residuals.to(dtype).T
        return residuals.mul_(self.features.to(dtype) @ other.features.to(dtype).T)

    def gram(self, rows: slice, others: slice, precise: bool = True) -> Tensor:
        return self.part(rows).inner(self.part(others), precise)

    def rows(self, index: Any, precise: bool = False) -> Tensor:
        residuals, features = self.residuals[index], self.features[index]
        if precise:  # a float32 product has a relative error of 6e-8; an inverse with a small λ magnifies the error
            residuals, features = residuals.double(), features.double()
        return (residuals.unsqueeze(2) * features.unsqueeze(1)).flatten(1)

    def columns(self, index: Any) -> Tensor:
        index = torch.as_tensor(index, device=self.features.device)
        d = self.features.shape[1]
        return self.residuals[:, index // d] * self.features[:, index % d]

    def entries(self, columns: Tensor, which: Tensor) -> Tensor:
        d = self.features.shape[1]
        return self.residuals.gather(1, (columns // d)[which]) * self.features.gather(1, (columns % d)[which])

    def part(self, index: Any) -> OuterBlock:
        probs = None if self.probs is None else self.probs[index]
        return OuterBlock(self.residuals[index], self.features[index], probs)

    def to(self, device: str) -> OuterBlock:
        probs = None if self.probs is None else self.probs.to(device)
        return OuterBlock(self.residuals.to(device), self.features.to(device), probs)


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

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def norm(self, order: int, precise: bool = True) -> Tensor:
        return _row_norms(self.values, order, precise)

    def squared_norms(self, precise: bool = True) -> Tensor:
        return self.norm(2, precise).square()

    def matvec(self, vectors: Tensor, precise: bool = True) -> Tensor:
        dtype = _working(self.dtype, precise)
        operand = _Operand.of(vectors, dtype)
        out = torch.empty(self.n, operand.matrix.shape[1], dtype=dtype, device=self.values.device)
        for rows in self._chunks(dtype):
            out[rows] = times(self.values[rows].to(dtype), operand.matrix)
        return operand.result(out)

    def rmatvec(self, weights: Tensor, precise: bool = True) -> Tensor:
        dtype = _working(self.dtype, precise)
        operand = _Operand.of(weights, dtype)
        out = torch.zeros(operand.matrix.shape[1], self.dimension, dtype=torch.float64, device=self.values.device)
        for rows in self._chunks(dtype):
            out += transposed_times(operand.matrix[rows], self.values[rows].to(dtype))
        return operand.result(out.T)

    def _chunks(self, dtype: torch.dtype) -> Iterator[slice]:
        return chunks(self.n, 1 if dtype == self.dtype else dtype.itemsize * self.dimension)

    def inner(self, other: Block, precise: bool = True) -> Tensor:
        dtype = _working(self.dtype, precise)
        return self.values.to(dtype) @ other.rows(slice(None)).to(dtype).T

    def gram(self, rows: slice, others: slice, precise: bool = True) -> Tensor:
        return self.part(rows).inner(self.part(others), precise)

    def rows(self, index: Any, precise: bool = False) -> Tensor:
        return self.values[index].double() if precise else self.values[index]

    def columns(self, index: Any) -> Tensor:
        return self.values[:, torch.as_tensor(index, device=self.values.device)]

    def entries(self, columns: Tensor, which: Tensor) -> Tensor:
        return self.values.gather(1, columns[which])

    def part(self, index: Any) -> DenseBlock:
        return DenseBlock(self.values[index])

    def to(self, device: str) -> DenseBlock:
        return DenseBlock(self.values.to(device))


def _working(stored: torch.dtype, precise: bool) -> torch.dtype:
    """The precision to multiply in: float64, or the stored one, but float32 at least."""
    return torch.float64 if precise else torch.promote_types(stored, torch.float32)


def _row_norms(values: Tensor, order: int, precise: bool) -> Tensor:
    """Norm of each row.

    With ``precise``, all norms are computed in float64. Otherwise float64 is used only for rows whose squares would
    leave float32's range.
    """

    def in_float64(rows: Tensor) -> Tensor:
        parts = chunks(len(rows), 8 * rows.shape[1], cached=rows.device.type == "cpu")
        return torch.cat([torch.linalg.vector_norm(rows[chunk].double(), order, dim=1) for chunk in parts])

    if precise or values.dtype == torch.float64:
        return in_float64(values)
    norms: Tensor = torch.linalg.vector_norm(values, order, dim=1, dtype=_working(values.dtype, False)).double()
    odd = torch.nonzero((norms < 1e-15) | (norms > 1e15))[:, 0]
    if len(odd):
        norms[odd] = in_float64(values[odd])
    return norms
