"""Each sample's loss, from a user's model and loss function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RequestError
from harness.gradients.model_inputs import Inputs, has_scalar, part_of_output

Loss = Callable[[Any, Tensor], Tensor]
"""(the model's output, targets) to the losses (n,), or to their sum or mean."""


class NotPerSample(Exception):
    """The output for a batch cannot be split by sample."""


@dataclass(frozen=True)
class Losses:
    """A model with a loss function.

    Args:
        function: the loss as a function of the model's output and the targets.
    """

    model: nn.Module
    function: Loss

    def total(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """The sum of the samples' losses."""
        return self.losses(inputs.call(self.model), targets).sum()

    def losses(self, output: Any, targets: Tensor) -> Tensor:
        """Each sample's loss, (n,), without the samples of `ignored`.

        A loss function that returns a mean or sum is called once per sample.
        """
        n = len(targets)
        losses = losses_of(self.function(output, targets))
        if losses.ndim and len(losses) == n:
            losses = losses.reshape(n, -1).sum(1)
        else:
            if n > 1 and has_scalar(output):
                raise NotPerSample("the model gives one number for a whole batch")
            parts = [slice(i, i + 1) for i in range(n)]
            sums = [losses_of(self.function(part_of_output(output, rows, n), targets[rows])).sum() for rows in parts]
            losses = torch.stack(sums)
        ignored = self.ignored(targets)
        return losses if ignored is None else losses[~ignored]

    def ignored(self, targets: Tensor) -> Tensor | None:
        """Samples whose targets are all ``ignore_index``, (n,) bool; None if there are no such samples.

        The mean loss of such a sample is 0/0, so the sample has no gradient.
        """
        index = getattr(self.function, "ignore_index", None)
        if not isinstance(index, int) or targets.is_floating_point():
            return None
        ignored = (targets == index).reshape(len(targets), -1).all(1)
        return ignored if bool(ignored.any()) else None


class Whole(nn.Module):
    """Model and loss as one module, so that a loss that reads the model's weights reads the replacement weights."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self.loss(inputs.call(self.model), targets)


def losses_of(losses: Any) -> Tensor:
    if not isinstance(losses, Tensor):
        raise RequestError(f"loss= must give a tensor of losses, (n,); it gave {type(losses).__name__}")
    return losses
