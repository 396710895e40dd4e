"""pyDVL's influence functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.selection.registry import register_method
from methods._libraries import Handed, LibraryMethod, numbers

if TYPE_CHECKING:
    from harness.interfaces.view import View

MODELS = {
    "direct": "DirectInfluence",
    "cg": "CgInfluence",
    "nystroem": "NystroemSketchInfluence",
    "harmonic": "InverseHarmonicMeanInfluence",
}


@register_method
@dataclass(frozen=True)
class PyDVL(LibraryMethod):
    """Influence by the library pyDVL.

    Args:
        inverse: ``direct``, ``cg``, ``nystroem``, or ``harmonic``, pyDVL's word for DataInf.
        damping: λ, which pyDVL adds to the Hessian.
        rank: the rank of the matrix that ``nystroem`` keeps.
        batch_size: samples that the library takes at a time. ``harmonic`` takes single samples, as DataInf is defined.
    """

    name: ClassVar[str] = "pydvl"
    title: ClassVar[str] = "pyDVL"
    source: ClassVar[str] = "pyDVL (github.com/aai-institute/pyDVL), pydvl.influence"
    requires: ClassVar[tuple[str, ...]] = ("pydvl",)
    needs: ClassVar[str] = "pip install 'influence-harness[pydvl]'"

    inverse: Literal["direct", "cg", "nystroem", "harmonic"] = "direct"
    damping: float = 0.01
    rank: int = 50
    batch_size: int = 256

    @property
    def full_title(self) -> str:
        return f"pyDVL, {self.inverse}"

    def harm(self, view: View) -> np.ndarray:
        import pydvl.influence.torch as models
        from torch.nn.functional import cross_entropy
        from torch.utils.data import DataLoader

        handed = Handed.of(view, self.layers, self.reference)
        if len(handed.train.tensors) > 2:
            raise Unsupported("pyDVL takes models of one input tensor")
        for name, values in handed.model.named_parameters():
            values.requires_grad_(name.rpartition(".")[0] in handed.layers)
        x, y = handed.train.tensors
        options: dict[str, int] = {}
        if self.inverse == "nystroem":
            options["rank"] = self.rank
        if self.inverse == "cg":  # one by one, pyDVL 0.10 leaves the solutions of all but the first p samples at zero
            options["solve_simultaneously"] = True
        model = getattr(models, MODELS[self.inverse])(
            handed.model, cross_entropy, regularization=self.damping, **options
        )
        fitted = model.fit(DataLoader(handed.train, batch_size=1 if self.inverse == "harmonic" else self.batch_size))
        test = handed.held.tensors
        parts = [
            numbers(fitted.influences(*test, x[start : start + self.batch_size], y[start : start + self.batch_size]))
            for start in range(0, len(y), self.batch_size)
        ]
        return -np.concatenate(parts, axis=1)
