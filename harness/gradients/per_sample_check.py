"""Compares a batch's gradients with those of single samples, up to rounding, and chooses the samples to compare."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOGETHER = 5
"""Samples of a chunk, at most, whose gradients are compared with backward passes of each alone."""


@dataclass(frozen=True)
class Comparison:
    """By how much a gradient computed in a batch may differ from the gradient of the single sample.

    Args:
        largest: tolerance of each entry, as a share of the expected gradient's largest absolute entry.
        size: tolerance of the difference's component along the expected gradient, as a share of the expected
            gradient's L2 norm. Rounding errors average out in this component.
    """

    largest: float
    size: float

    @classmethod
    def of(cls, model: nn.Module) -> Comparison:
        """The tolerances for the coarsest data type of a model's weights.

        A type coarser than bfloat16 counts as bfloat16, because models do not compute in coarser types.
        """
        coarsest = torch.finfo(torch.bfloat16).eps
        kinds = [values.dtype for values in model.parameters()]
        eps = max(min(torch.finfo(k).eps, coarsest) if k.is_floating_point else coarsest for k in kinds)
        return cls(max(1e-3, 16 * eps), max(1e-3, 4 * eps))

    def alike(self, gradient: Tensor, expected: Tensor, rounding: float) -> bool:
        """Whether a gradient agrees with the expected gradient. NaN agrees with NaN, and an infinity with itself.

        Args:
            rounding: a difference per entry that is always allowed.
        """
        unknown = (gradient.isnan() & expected.isnan()) | ((gradient == expected) & ~expected.isfinite())
        gradient, expected = gradient[~unknown].double(), expected[~unknown].double()
        if not gradient.numel():
            return True
        apart = gradient - expected
        largest, most = float(apart.abs().max()), float(expected.abs().max())
        if largest <= rounding:
            return True
        along = abs(float((apart * expected).sum())) <= self.size * float(expected.square().sum())
        return along and largest <= self.largest * most


def rows_with_gradients(names: Collection[str], into: Mapping[str, Tensor], n: int) -> list[int]:
    """Rows to compare: rows where a parameter's gradient is largest (nine at most), then more rows up to five in all.

    Args:
        names: names of the parameters.
        into: the parameters' gradients, (n, …).
    """
    if not names:
        return []
    sizes = torch.stack([into[name].reshape(n, -1).abs().amax(1).float().cpu() for name in sorted(names)])
    sizes = torch.nan_to_num(sizes, nan=torch.inf)
    largest = {int(row) for row, size in zip(sizes.argmax(1), sizes.amax(1), strict=True) if size > 0}
    rows = sorted(largest)[:: max(1, len(largest) // TOGETHER)]
    total = (sizes > 0).sum(0)
    for row in total.argsort(descending=True, stable=True).tolist():
        if len(rows) >= min(n, TOGETHER) or total[row] == 0:
            break
        if row not in rows:
            rows.append(row)
    return rows
