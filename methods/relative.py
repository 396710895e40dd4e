"""Detectors that divide influence by a length, or compare a gradient with its company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.selection.registry import register_method
from methods.influence import ExactHessian

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class RelatIF(ExactHessian):
    """Relative influence: −ḡᵀ(C + λI)⁻¹g_i over |(C + λI)⁻¹g_i|, the length of what the sample moves.

    Samples that move the whole model rank lower than by influence. The length is taken over all layers together.
    """

    name: ClassVar[str] = "relat_if"
    title: ClassVar[str] = "RelatIF"
    source: ClassVar[str] = "Barshan et al., AISTATS 2020, Definition 3.2 (θ-relative influence)"

    def score(self, view: View) -> np.ndarray:
        return np.asarray(super().score(view) / self._lengths(view))

    def attribute(self, view: View) -> np.ndarray:
        return np.asarray(super().attribute(view) / self._lengths(view))

    def _lengths(self, view: View) -> np.ndarray:
        """|(C + λI)⁻¹ g_i| over all layers, (n,); 1 for a zero gradient."""
        import torch

        from harness.gradients.products import chunks

        squares = torch.zeros(view.n, dtype=torch.float64)
        for block in view.gradients_of(self.layers).values():
            solve = self.inverse(block, view.n)
            for rows in chunks(view.n, 8 * 6 * block.dimension):
                solved = solve(block.rows(rows, precise=True).T).values
                squares[rows] += solved.square().sum(0).cpu()
        return np.where(squares > 0, np.sqrt(squares.numpy()), 1.0)


@register_method
@dataclass(frozen=True)
class AdverseGradient(Method):
    """AGRA: minus the cosine between a sample's gradient and the mean gradient of a random batch of other samples.

    (The paper does so in every training step. Here it is done once, on the trained model, over several batches.)

    Args:
        batch: samples per batch.
        batches: number of batches that each sample is compared with.
        layers: whose gradients count: ``all``, the ``last`` layer's, or the layers that a glob matches.
    """

    name: ClassVar[str] = "agra"
    title: ClassVar[str] = "AGRA"
    source: ClassVar[str] = "Sedova et al., ECML PKDD 2023 (arXiv 2306.04502), section 3"

    batch: int = 128
    batches: int = 20
    layers: str = "all"

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batches < 1:
            raise ValueError(f"batch={self.batch} and batches={self.batches} must be at least 1")

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients")

    def score(self, view: View) -> np.ndarray:
        import torch

        gradients, rng, n = view.gradients_of(self.layers), view.rng, view.n
        size = min(self.batch, n)
        weights = np.zeros((n, self.batches))
        for column in weights.T:
            column[rng.permutation(n)[:size]] = 1 / size
        products, lengths = np.zeros((n, self.batches)), np.zeros(self.batches)
        for block in gradients.values():
            means = block.rmatvec(torch.from_numpy(weights).to(block.rows(slice(0)).device))
            products += block.matvec(means).cpu().numpy()
            lengths += means.square().sum(0).cpu().numpy()
        own = gradients.norm(2).astype(np.float64)[:, None]
        scale = own * np.sqrt(lengths)
        cosines = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
        return np.asarray(-cosines.mean(1))


@register_method
@dataclass(frozen=True)
class Representer(Method):
    """The representer value of a sample for its own given label.

    At the optimum of an L2-penalised last layer, the layer's weights are Σ_i α_i h_iᵀ with α_i ∝ −e_i. A sample whose
    label the other samples do not support has a large α at its own label.

    Args:
        weight: ``alpha`` is α at the given label, which orders samples as ``self_confidence`` does; ``self_product`` is
            α|h|², how much the sample holds up its own logit.
    """

    name: ClassVar[str] = "representer"
    title: ClassVar[str] = "Representer value"
    source: ClassVar[str] = "Yeh et al., NeurIPS 2018, Theorem 3.1"

    weight: Literal["alpha", "self_product"] = "alpha"

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "probs", "features") if self.weight == "self_product" else ("labels", "probs")

    def score(self, view: View) -> np.ndarray:
        alpha = 1 - view.probs[np.arange(view.n), view.labels]
        if self.weight == "alpha":
            return np.asarray(alpha)
        features = view.features
        if features.shape[1] == 0:
            raise Unsupported("this view has no last-layer features")
        return np.asarray(alpha * features.double().square().sum(1).cpu().numpy())
