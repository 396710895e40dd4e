"""The models for a user's own arrays: the models of the image and the tabular tasks, without the tasks' data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.interfaces.task import Split
from tasks._image_task import ImageTask
from tasks._tabular import TabularTask

if TYPE_CHECKING:
    from tasks._images import Windows
    from tasks._mlp import Recipe
    from tasks._networks import Network

LARGE = 64
"""Images with a longer side than this, in pixels, get the network variants for ImageNet."""


@dataclass(frozen=True)
class OnFeatures(TabularTask):
    """Logistic regression, or a network of one hidden layer.

    Args:
        hidden: width of the hidden layer; 0 for logistic regression.
        steps: full-batch Adam steps.
        weight_decay: L2 penalty.
    """

    name: ClassVar[str] = "arrays"

    hidden: int = 0
    steps: int = 500
    weight_decay: float = 1e-3

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        raise NotImplementedError("the file's task loads")

    def recipe(self, n_classes: int) -> Recipe:
        from tasks._mlp import Recipe

        hidden = (self.hidden,) if self.hidden else ()
        return Recipe(hidden, n_classes, True, self.steps, 0.01 if hidden else 0.05, self.weight_decay)


@dataclass(frozen=True)
class OnImages(ImageTask):
    """An image network on images of any one size.

    Args:
        size: the shorter side, in pixels.
    """

    name: ClassVar[str] = "arrays"

    schedule: Literal["step", "one_cycle"] = "one_cycle"
    turn: float = 0.3
    size: int = 32

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        raise NotImplementedError("the file's task loads")

    def windows(self) -> Windows:
        from tasks._images import Windows

        return Windows(self.size, self.size // 8)

    def network(self, n_classes: int, seed: int) -> Network:
        from tasks._networks import IMAGENET, make_network

        return make_network(self.model, n_classes, seed, IMAGENET, large=self.size > LARGE)
