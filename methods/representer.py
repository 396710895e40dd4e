"""Representer values: how much a sample holds up a prediction of the trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.interfaces.params import option
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class Representer(Method):
    """The representer value of a sample for its own given label.

    At the optimum of an L2-penalised last layer, the layer's weights are Σ_i α_i h_iᵀ with α_i ∝ −e_i. Here h_i are
    the features, and e_i is the error, probabilities minus one-hot label. If the other samples do not support a
    sample's label, the sample's α at this label is large.

    To a test sample with features h and label y, sample i contributes α_iy h_iᵀh of the label's logit. Attributions are
    these contributions with the opposite sign.

    Args:
        reference: the samples that attributions are for.
        weight: ``alpha`` is α at the given label and orders samples as ``self_confidence`` does. ``self_product`` is
            α|h|², the sample's contribution to its own logit.
    """

    name: ClassVar[str] = "representer"
    title: ClassVar[str] = "Representer value"
    source: ClassVar[str] = "Yeh et al., NeurIPS 2018"

    weight: Literal["alpha", "self_product"] = "alpha"
    reference: Literal["validation", "noisy_validation", "train", "test"] = option("test")

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

    def attribute(self, view: View) -> np.ndarray:
        reference = view.reference(self.reference)
        theirs = reference.features
        if theirs is None:
            raise Unsupported("the reference samples have no last-layer features here")
        products = (theirs.double() @ view.features.double().T).cpu().numpy()
        alpha = np.eye(view.probs.shape[1])[view.labels] - view.probs
        return np.asarray(-alpha[:, reference.labels].T * products)
