"""captum's attributions: TracInCP, Arnoldi influence, and similarity of activations."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.selection.registry import register_method
from methods._libraries import Handed, LibraryMethod, numbers, states_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class Captum(LibraryMethod):
    """Attributions by the library captum.

    Args:
        algorithm: ``tracin``: TracInCP over the task's checkpoints. ``arnoldi``: influence with the Hessian's largest
            eigenvectors. ``similarity``: the cosine of two samples' activations, averaged over the layers. The
            similarity knows no labels, so a training sample counts as harmful to reference samples of other labels,
            and as helpful to samples of its own.
        rank: number of eigenvectors that ``arnoldi`` keeps.
        batch_size: samples that the library takes at a time.
    """

    name: ClassVar[str] = "captum"
    title: ClassVar[str] = "captum"
    source: ClassVar[str] = "captum (github.com/pytorch/captum), captum.influence"
    requires: ClassVar[tuple[str, ...]] = ("captum",)
    needs: ClassVar[str] = "pip install 'influence-harness[captum]'"

    algorithm: Literal["tracin", "arnoldi", "similarity"] = "tracin"
    rank: int = 50
    batch_size: int = 256

    @property
    def full_title(self) -> str:
        return f"captum, {self.algorithm}"

    @property
    def uses(self) -> tuple[str, ...]:
        return (*super().uses, *(["checkpoints"] if self.algorithm == "tracin" else []))

    def harm(self, view: View) -> np.ndarray:
        handed = Handed.of(view, self.layers, self.reference)
        if self.algorithm == "similarity":
            return self._similarity(handed)
        *inputs, labels = handed.held.tensors
        return -numbers(self._influence(view, handed).influence((*inputs, labels)))

    def on_itself(self, view: View) -> np.ndarray:
        if self.algorithm == "similarity":
            return super().on_itself(view)
        return numbers(self._influence(view, Handed.of(view, self.layers, None)).self_influence())

    def _influence(self, view: View, handed: Handed) -> Any:
        from captum.influence import TracInCP
        from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction  # not exported in 0.9
        from torch.nn import CrossEntropyLoss

        common: dict[str, Any] = {
            "layers": handed.layers,
            "loss_fn": CrossEntropyLoss(reduction="sum"),
            "batch_size": self.batch_size,
            "sample_wise_grads_per_batch": True,
        }
        if self.algorithm == "tracin":
            states = states_of(view)

            def load(model: nn.Module, position: str) -> float:
                rate, state = states[int(position)]
                model.load_state_dict(state)
                return rate

            return TracInCP(handed.model, handed.train, [*map(str, range(len(states)))], load, **common)
        return ArnoldiInfluenceFunction(
            handed.model,
            handed.train,
            "",
            lambda *_: 1.0,
            projection_dim=self.rank,
            seed=view.seed % 2**31,
            **common,
        )

    def _similarity(self, handed: Handed) -> np.ndarray:
        from captum.influence import SimilarityInfluence

        *inputs, labels = handed.held.tensors
        *_, own = handed.train.tensors
        n, total = len(own), np.zeros((len(labels), len(own)))
        even = next(size for size in range(self.batch_size, 0, -1) if n % size == 0)  # captum 0.9 wants full batches
        with tempfile.TemporaryDirectory() as folder:
            similarity = SimilarityInfluence(
                handed.model, handed.layers, handed.train, folder, similarity_metric=_cosine, batch_size=even
            )
            nearest = similarity.influence(tuple(inputs), top_k=n)
        for layer in handed.layers:
            positions, values = (numbers(part) for part in nearest[layer])
            cosines = np.empty_like(total)
            np.put_along_axis(cosines, positions.astype(np.int64), values, axis=1)
            total += cosines / len(handed.layers)
        return np.where(labels.cpu().numpy()[:, None] == own.cpu().numpy(), -total, total)


def _cosine(inputs: Any, source: Tensor) -> Tensor:
    """Cosine similarities (m, n) of activations; captum 0.9 gives those of a single layer within a list."""
    from torch.nn.functional import normalize

    values: Tensor = inputs[0] if isinstance(inputs, list) else inputs
    return normalize(values.flatten(1), dim=1) @ normalize(source.flatten(1), dim=1).T
