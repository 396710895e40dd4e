"""Projected gradients of the margin log(p_y / (1 − p_y)), in the last layer or in a network's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.blocks import Block, DenseBlock, OuterBlock
from harness.gradients.gradients import Gradients
from methods._network import Network, margins
from methods._projection import projection

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True, eq=False)
class Margins:
    """Margin gradients of one model, float64.

    Args:
        train: (n, k).
        reference: (n_reference, k).
        doubts: 1 − p of the training samples' given labels, (n,).
    """

    train: Tensor
    reference: Tensor
    doubts: Tensor

    @classmethod
    def of(cls, view: View, layers: str, reference: str, dimension: int, seed: int) -> Margins:
        """Gradients of a view's model, projected if there are more than ``dimension`` parameters.

        Raises:
            Unsupported: the view has no last layer with probabilities, or no torch module for other layers.
        """
        if layers == "last":
            return cls._of_last(view, reference, dimension, seed)
        network, held = Network.of(view, layers), view.reference(reference)
        projector = _Projector(dimension, seed)
        sets = ((view.inputs, network.targets(view.labels)), (held.inputs, network.targets(held.labels)))
        train, other = (
            torch.cat([projector.apply(made) for _, made in network.gradients(inputs, targets, margins)])
            for inputs, targets in sets
        )
        probs = network.probabilities(view.inputs, view.n)
        return cls(train, other, _doubts(probs, network.targets(view.labels)))

    @classmethod
    def _of_last(cls, view: View, reference: str, dimension: int, seed: int) -> Margins:
        held = view.reference(reference, "last")
        projector = _Projector(dimension, seed)
        train, doubts = _last(view.gradients_of("last").single(), view.labels)
        other, _ = _last(held.gradients.single(), held.labels)
        return cls(projector.apply({"head": train}), projector.apply({"head": other}), doubts)


class _Projector:
    """The same random projection for every chunk of gradients."""

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension, self.seed = dimension, seed
        self.matrix: Any = None

    def apply(self, gradients: Any) -> Tensor:
        """Gradients by layer, blocks or tensors (n, c, d), as (n, k) float64."""
        blocks: dict[str, Block] = {
            name: DenseBlock(values) if isinstance(values, Tensor) else values for name, values in gradients.items()
        }
        whole = Gradients(blocks)
        if whole.dimension <= self.dimension:
            return whole.rows(slice(None)).double()
        if self.matrix is None:
            self.matrix = projection(whole, self.dimension, self.seed)
        return whole.project(self.matrix).double()


def _last(block: Block, labels: np.ndarray) -> tuple[OuterBlock, Tensor]:
    """The margin's gradients of a last layer, and 1 − p.

    The margin's gradient is −1/(1 − p_y) times the loss's. Both are taken from the probabilities of the other classes:
    1 − p_y loses all its digits where p_y is nearly 1, and their sum does not.
    """
    if not isinstance(block, OuterBlock) or block.probs is None:
        raise Unsupported("TRAK needs class probabilities and the inputs of the last layer")
    probs = block.probs.double()
    target = torch.from_numpy(labels).to(probs.device)
    features = block.features.double()
    if probs.shape[1] == 1:
        signs = (2 * target - 1).double().unsqueeze(1)
        return OuterBlock(signs, features), torch.where(target == 1, 1 - probs[:, 0], probs[:, 0])
    doubts = _doubts(probs, target)
    own = torch.nn.functional.one_hot(target, probs.shape[1]).double()
    return OuterBlock(own - probs * (1 - own) / doubts.clamp_min(TINY).unsqueeze(1), features), doubts


TINY = torch.finfo(torch.float64).tiny


def _doubts(probs: Tensor, labels: Tensor) -> Tensor:
    """1 − p_y as the sum over the other classes, (n,) float64."""
    own = torch.nn.functional.one_hot(labels, probs.shape[1]).bool()
    return probs.double().masked_fill(own, 0).sum(1)
