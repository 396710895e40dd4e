"""dattri's attributions: influence functions with several inverses, TracIn and TRAK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.selection.registry import register_method
from methods._libraries import Handed, LibraryMethod, numbers

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

    from harness.interfaces.view import View

INVERSES = {
    "explicit": "IFAttributorExplicit",
    "cg": "IFAttributorCG",
    "datainf": "IFAttributorDataInf",
}


@register_method
@dataclass(frozen=True)
class Dattri(LibraryMethod):
    """Attributions by the library dattri.

    Args:
        algorithm: an influence function (``explicit``, ``cg`` or ``datainf``), or TRAK (``trak``).
        damping: λ, which dattri adds to the matrix that it inverts. ``datainf`` and ``trak`` need a positive λ.
        projected: the dimension that ``trak`` projects gradients to.
        batch_size: samples that the library takes at a time. The influence functions take the Hessian of one batch, so
            they get all samples as one batch.
    """

    name: ClassVar[str] = "dattri"
    title: ClassVar[str] = "dattri"
    source: ClassVar[str] = "dattri (github.com/TRAIS-Lab/dattri); Deng et al., NeurIPS 2024"
    requires: ClassVar[tuple[str, ...]] = ("dattri",)
    needs: ClassVar[str] = "pip install 'influence-harness[dattri]'"

    algorithm: Literal["explicit", "cg", "datainf", "trak"] = "explicit"
    damping: float = 0.01
    projected: int = 512
    batch_size: int = 256

    @property
    def full_title(self) -> str:
        return f"dattri, {self.algorithm}"

    def harm(self, view: View) -> np.ndarray:
        handed = Handed.of(view, self.layers, self.reference)
        attributor, size = self._attributor(handed)
        train, held = _loader(handed.train, size), _loader(handed.held, size)
        attributor.cache(train)
        attributed = attributor.attribute(held) if self.algorithm == "trak" else attributor.attribute(train, held)
        return -numbers(attributed).T

    def on_itself(self, view: View) -> np.ndarray:
        if self.algorithm == "trak":
            return super().on_itself(view)
        handed = Handed.of(view, self.layers, None)
        attributor, size = self._attributor(handed)
        train = _loader(handed.train, size)
        attributor.cache(train)
        return numbers(attributor.self_attribute(train)).ravel()

    def _attributor(self, handed: Handed) -> tuple[Any, int]:
        """The library's object, and the batch size for it."""
        from dattri.algorithm import influence_function
        from dattri.algorithm.trak import TRAKAttributor
        from dattri.task import AttributionTask

        device = str(handed.train.tensors[0].device)
        parameters = [
            f"{layer}.{name}"
            for layer in handed.layers
            for name, values in handed.model.get_submodule(layer).named_parameters()
            if values.requires_grad
        ]
        common = {"layer_name": parameters, "device": device, "regularization": self.damping}
        state = handed.model.state_dict()
        if self.algorithm == "trak":
            task = AttributionTask(_margin(handed), handed.model, state)
            kwargs = {"proj_dim": self.projected, "device": device}
            return TRAKAttributor(task, _probability(handed), projector_kwargs=kwargs, **common), self.batch_size
        attributor = getattr(influence_function, INVERSES[self.algorithm])
        return attributor(AttributionTask(_loss(handed), handed.model, state), **common), len(handed.train)


def _loader(data: Any, size: int) -> DataLoader:
    from torch.utils.data import DataLoader

    return DataLoader(data, batch_size=min(size, len(data)))


def _logits(handed: Handed) -> Callable[[Any, Any], tuple[Tensor, Tensor]]:
    """Logits (n, c) and labels (n,) from parameters and a batch, or one sample without a batch dimension."""
    from torch.func import functional_call

    dimensions = handed.train.tensors[-1].ndim

    def run(parameters: Any, data: Any) -> tuple[Tensor, Tensor]:
        *inputs, labels = data
        if labels.ndim < dimensions:  # under vmap
            inputs, labels = [values.unsqueeze(0) for values in inputs], labels.unsqueeze(0)
        return functional_call(handed.model, parameters, tuple(inputs)), labels.long()

    return run


def _loss(handed: Handed) -> Callable[[Any, Any], Tensor]:
    from torch.nn.functional import cross_entropy

    run = _logits(handed)
    return lambda parameters, data: cross_entropy(*run(parameters, data))


def _probability(handed: Handed) -> Callable[[Any, Any], Tensor]:
    loss = _loss(handed)
    return lambda parameters, data: (-loss(parameters, data)).exp()


def _margin(handed: Handed) -> Callable[[Any, Any], Tensor]:
    """log(p/(1 − p)) of the given label, from the loss −log p."""
    loss = _loss(handed)

    def margin(parameters: Any, data: Any) -> Tensor:
        value = loss(parameters, data)
        return -value - (1 - (-value).exp()).log()

    return margin
