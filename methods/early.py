"""Detectors that score samples by the base model early in training, before the model has learnt the wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.interfaces.method import Method
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


def check_progress(progress: float) -> None:
    """Raise ValueError unless ``progress`` is a share in (0, 1]."""
    if not 0 < progress <= 1:
        raise ValueError(f"progress={progress} must be a share in (0, 1]")


@register_method
@dataclass(frozen=True)
class ErrorNorm(Method):
    """EL2N: the Euclidean norm of class probabilities minus the one-hot given label, early in training.

    Args:
        progress: the time of the measurement, as a share of the training epochs.
    """

    name: ClassVar[str] = "el2n"
    title: ClassVar[str] = "EL2N"
    source: ClassVar[str] = "Paul et al., NeurIPS 2021"

    progress: float = 0.2

    def __post_init__(self) -> None:
        check_progress(self.progress)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "training dynamics")

    def score(self, view: View) -> np.ndarray:
        dynamics = view.dynamics
        moment = int(np.searchsorted(dynamics.epochs, self.progress * dynamics.epochs[-1] * (1 - 1e-9)))
        errors = dynamics.probs_at(moment).astype(np.float64)
        errors[np.arange(view.n), view.labels] -= 1
        return np.asarray(np.sqrt((errors**2).sum(1)))


@register_method
@dataclass(frozen=True)
class EarlyGradientNorm(Method):
    """GraNd: the norm of the gradient of each sample's loss, early in training.

    Args:
        progress: the time of the measurement, as a share of the training. The nearest checkpoint is used.
        layers: the layers to take gradients of: ``all``, ``last``, or a glob over the names of gradient blocks.
    """

    name: ClassVar[str] = "grand"
    title: ClassVar[str] = "GraNd"
    source: ClassVar[str] = "Paul et al., NeurIPS 2021"

    progress: float = 0.2
    layers: str = "all"

    def __post_init__(self) -> None:
        check_progress(self.progress)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients", "checkpoints")

    def score(self, view: View) -> np.ndarray:
        checkpoints = view.checkpoints
        wanted = self.progress * checkpoints[-1].epoch
        early = min(checkpoints, key=lambda checkpoint: abs(checkpoint.epoch - wanted))
        return np.asarray(early.view.gradients_of(self.layers).norm(2), dtype=np.float64)
