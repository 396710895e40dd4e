"""Representation similarity: training samples that look like a test sample to the model, signed by the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.interfaces.params import option
from harness.interfaces.uses import of_reference
from harness.selection.registry import register_method

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class RepresentationSimilarity(Method):
    """The cosine of the last layer's inputs of a reference sample and of a training sample.

    The sample counts as helpful if it has the reference sample's label, and as harmful if it has another one. No
    gradient is needed, so this is the control for methods that attribute by gradients.

    Args:
        reference: the reference samples: clean ``validation``, ``noisy_validation``, ``train`` or ``test``.
        signed: whether labels count. With ``no``, all similar samples count as helpful, as published.
    """

    name: ClassVar[str] = "representation_similarity"
    title: ClassVar[str] = "Representation similarity"
    source: ClassVar[str] = "Hanawa et al., ICLR 2021 (cosine of the last layer's inputs); the sign is ours"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"reference": "train"}}

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"
    signed: bool = option(True)

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "features", *of_reference(self.reference))

    def attribute(self, view: View) -> np.ndarray:
        import torch

        reference = view.reference(self.reference)
        if reference.features is None:
            raise Unsupported("the reference samples have no last-layer features here")
        ours, theirs = (
            torch.nn.functional.normalize(torch.as_tensor(values).double(), dim=1)
            for values in (view.features, reference.features)
        )
        similar = (theirs @ ours.T).cpu().numpy()
        if not self.signed:
            return np.asarray(-similar)
        return np.where(reference.labels[:, None] == view.labels[None, :], -similar, similar)
