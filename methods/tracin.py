"""TracIn with checkpoints: influence without an inverse matrix, summed over the checkpoints of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods.gradient_tracing import GradientTracing

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class TracInCheckpoints(GradientTracing):
    """TracIn influence, −Σ_t η_t ḡ(θ_t)·g_i(θ_t), summed over checkpoints t.

    ḡ is the mean gradient of the reference set. η_t is the sum of the learning rates of all steps since the previous
    checkpoint. (The original TracIn sums over every step.)
    """

    name: ClassVar[str] = "tracin_cp"
    title: ClassVar[str] = "TracIn, checkpoints"
    source: ClassVar[str] = "Pruthi et al., NeurIPS 2020 (TracInCP)"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @property
    def uses(self) -> tuple[str, ...]:
        return (*super().uses, "checkpoints")

    def score(self, view: View) -> np.ndarray:
        return self._over_checkpoints(view, "score")

    def attribute(self, view: View) -> np.ndarray:
        return self._over_checkpoints(view, "attribute")

    def _over_checkpoints(self, view: View, what: Literal["score", "attribute"]) -> np.ndarray:
        at_one = GradientTracing(**{field.name: getattr(self, field.name) for field in fields(GradientTracing)})
        weighted = [made.learning_rate * getattr(at_one, what)(made.view) for made in view.checkpoints]
        return np.asarray(np.sum(weighted, axis=0))


@register_method
@dataclass(frozen=True)
class TracInSelfInfluence(Method):
    """TracIn of a sample on itself, Σ_t η_t |g_i(θ_t)|² over checkpoints t with learning rates η_t.

    The sum estimates how much the training steps on a sample lowered the loss of the same sample.

    Args:
        layers: the layers to take gradients of: ``all``, ``last``, or a glob over the names of gradient blocks.
    """

    name: ClassVar[str] = "tracin_self"
    title: ClassVar[str] = "TracIn self-influence"
    source: ClassVar[str] = "Pruthi et al., NeurIPS 2020 (self-influence)"

    layers: str = "all"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients", "checkpoints")

    def score(self, view: View) -> np.ndarray:
        total = np.zeros(view.n)
        for made in view.checkpoints:
            total += made.learning_rate * made.view.gradients_of(self.layers).norm(2).astype(np.float64) ** 2
        return total
