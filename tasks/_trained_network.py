"""A trained image network: what methods see of it, and its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split
from tasks._images import OnImages, Recipe, read_out
from tasks._networks import Network


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its test accuracy after every epoch, its recipe, and the seed it was trained from."""

    network: Network
    history: list[float]
    recipe: Recipe
    seed: int

    def module(self) -> nn.Module:
        """The network on uint8 images, cut and scaled as in evaluation."""
        return OnImages(self.network, self.recipe).eval()

    def outputs(self, samples: Samples, augmented: bool = False) -> Outputs:
        """What methods see.

        Args:
            augmented: read randomly cropped and flipped images, drawn from the model's seed, instead of plain ones.
        """
        features, probs = read_out(self.network, samples.inputs, self.recipe, self.seed if augmented else None)
        return Outputs(samples.labels, probs, features)

    def logits(self, samples: Samples) -> Tensor:
        """Logits of plain images in eval mode, (n, c)."""
        features, _ = read_out(self.network, samples.inputs, self.recipe)
        with torch.no_grad():
            return torch.as_tensor(self.network.head(features))

    def metrics(self, split: Split, report: Literal["last_epoch", "best_epoch"]) -> dict[str, float]:
        """Test accuracy, recorded in training."""
        last, best = self.history[-1], max(self.history)
        return {"accuracy": best if report == "best_epoch" else last, "accuracy_best_epoch": best}

    def curves(self) -> Mapping[str, Sequence[float]]:
        return {"accuracy_by_epoch": self.history}
