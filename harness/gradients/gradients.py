"""A sample's whole gradient: named blocks, one per layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported, did_you_mean
from harness.gradients.blocks import Block, DenseBlock
from harness.gradients.products import chunks

PROJECTED_TOGETHER = 16
"""Samples projected at a time by a thread: so few that their gradients stay in its cache."""


class Gradients(Mapping[str, Block]):
    """A sample's gradient in named blocks (one per layer); influence is computed block by block and summed.

    Args:
        blocks: the blocks by name.
        device: where blocks are moved when they are asked for; None leaves them where they are.

    Raises:
        ValueError: no block, or blocks of different numbers of samples.
    """

    def __init__(self, blocks: Mapping[str, Block], device: str | None = None) -> None:
        counts = {name: block.n for name, block in blocks.items()}
        if not counts or len(set(counts.values())) != 1:
            raise ValueError(f"gradient blocks need one common number of samples; given {counts or 'no block'}")
        self._blocks = dict(blocks)
        self._device = device

    def __getitem__(self, name: str) -> Block:
        block = self._blocks[name]
        return block if self._device is None else block.to(self._device)

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

    def norm(self, order: int, precise: bool = True) -> np.ndarray:
        """L1 or L2 norm of each sample's whole gradient, (n,)."""
        total = torch.stack([block.norm(order, precise) ** order for block in self.values()]).sum(0)
        return np.asarray((total ** (1 / order)).cpu().numpy())

    def rows(self, index: Any) -> Tensor:
        """Whole gradients of some samples as dense rows, (r, p), blocks side by side."""
        return torch.cat([block.rows(index) for block in self.values()], dim=1)

    def part(self, index: Any) -> Gradients:
        """The same blocks of some samples, by a slice or positions."""
        return Gradients({name: block.part(index) for name, block in self._blocks.items()}, self._device)

    def chosen(self, pattern: str) -> Gradients:
        """The blocks whose names a glob matches.

        Raises:
            Unsupported: there is none.
        """
        chosen = {name: block for name, block in self._blocks.items() if fnmatchcase(name, pattern)}
        if not chosen:
            known = list(self._blocks)
            raise Unsupported(
                f"layers={pattern!r} names no gradient block here{did_you_mean(pattern, known)}; give all, last, or a "
                f"glob over {', '.join(known[:12])}{' …' if len(known) > 12 else ''}"
            )
        return Gradients(chosen, self._device)

    def single(self) -> Block:
        """The whole gradient as one block: the only one, or all of them side by side in memory."""
        blocks = list(self.values())
        return blocks[0] if len(blocks) == 1 else DenseBlock(self.rows(slice(None)))

    def project(self, matrix: Any) -> Tensor:
        """G Rᵀ for a sparse (k, p) scipy matrix R, (n, k); a few samples' gradients are built at a time.

        On a CPU, each number is the same sum, added in the same order, as in scikit-learn's ``transform``.
        """
        device = next(iter(self.values())).rows(slice(0, 0)).device
        if device.type != "cpu":
            starts, columns, values = (
                torch.from_numpy(values).to(device) for values in (matrix.indptr, matrix.indices, matrix.data)
            )
            sparse = torch.sparse_csr_tensor(starts, columns, values, matrix.shape)
            parts = [(sparse @ self.rows(rows).T.to(sparse.dtype)).T for rows in chunks(self.n, 8 * sum(matrix.shape))]
            return torch.cat(parts)

        dtype = torch.float64 if matrix.dtype == np.float64 else torch.float32

        def projected(rows: slice) -> np.ndarray:
            return np.asarray((matrix @ np.ascontiguousarray(self.rows(rows).to(dtype).numpy().T)).T)

        slices = [
            slice(start, min(start + PROJECTED_TOGETHER, self.n)) for start in range(0, self.n, PROJECTED_TOGETHER)
        ]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return torch.from_numpy(np.concatenate(list(pool.map(projected, slices))))
