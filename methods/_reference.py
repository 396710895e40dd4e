"""The base of all methods that compare training samples with a reference set."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.method import Method
from harness.interfaces.uses import of_reference

if TYPE_CHECKING:
    from harness.interfaces.view import View


@dataclass(frozen=True)
class ReferenceMethod(Method):
    """Base of the methods that attribute the loss of reference samples to training samples.

    Args:
        reference: the samples whose loss is used: clean ``validation``, ``noisy_validation``, ``train``, or the
            ``test`` samples of an attribution task. With ``train`` and a converged model, ḡ is about zero.
        sign: 1 treats positive influence as harmful, which agrees with the derivation. −1 treats negative influence
            as harmful, as in Eq. (2) of the paper and in the published baseline runs.
        layers: the layers to take gradients of: ``all``, ``last``, or a glob over the names of gradient blocks.
        class_mean: in attribution tasks, every training sample gets the mean influence of its class. Outlier methods
            also give one value per class.
    """

    reference: Literal["validation", "noisy_validation", "train", "test"] = "validation"
    sign: Literal[1, -1] = 1
    layers: str = "all"
    class_mean: bool = False

    @property
    def uses(self) -> tuple[str, ...]:
        return ("labels", "gradients", *of_reference(self.reference))

    def refuse_class_mean(self) -> None:
        """Raise Unsupported if class means are asked for where one score per sample is computed."""
        if self.class_mean:
            raise Unsupported("class_mean=yes is for attributions; this task asks for one score per training sample")

    def attribute(self, view: View) -> np.ndarray:
        influence = self.sign * self.pairwise(view)
        if self.class_mean:
            classes = view.classes
            for c in np.unique(classes):
                influence[:, classes == c] = influence[:, classes == c].mean(axis=1, keepdims=True)
        return influence

    @abstractmethod
    def pairwise(self, view: View) -> np.ndarray:
        """How much each training sample harms each reference sample, (n_reference, n), with sign 1."""
