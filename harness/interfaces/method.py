"""The interface of a method: a frozen dataclass that scores a view."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.params import option

if TYPE_CHECKING:  # torch is not imported by `list` and `--help`
    from harness.interfaces.flags import Flags
    from harness.interfaces.view import View


@dataclass(frozen=True)
class Method(ABC):
    """Scores training samples by how suspicious they are. Its dataclass fields are its parameters.

    A subclass implements `score`, or `attribute`, or both, and may implement `flag`. It names itself:

    Attributes:
        name: what the command line calls it.
        title: its row in reports; the name if left out.
        source: where it comes from (paper, section).
        requires: modules it imports when it scores; a missing one makes it unavailable.
        protocols: parameter values by protocol, where they differ from the defaults (which are the fair ones).
        trims: False for a method that flags nothing (the untrimmed model).
        version: raise it when scores change and the code of the method's module does not.
        expected_failures: conformance checks that it is known to fail, by name, with the reason.

    Args:
        threshold: what the method flags of its own accord: samples above a threshold on the scores, by a ``mixture`` of
            two Gaussians or by ``otsu``; ``none`` leaves it to `flag`.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    requires: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    trims: ClassVar[bool] = True
    version: ClassVar[int] = 1
    expected_failures: ClassVar[Mapping[str, str]] = {}

    threshold: Literal["mixture", "otsu"] | None = option(None)

    @property
    def full_title(self) -> str:
        """Its row in reports, with what a parameter names where the title alone would not say it."""
        return self.title or self.name

    @property
    def uses(self) -> tuple[str, ...]:
        """What it looks at: labels, probs, features, gradients, clean validation, noisy validation, class labels,
        retraining. Left empty, reports print what it was seen to use."""
        return ()

    def check(self) -> None:  # noqa: B027 - optional
        """Raise a `RequestError` if something that a parameter names is missing; called before anything runs."""

    def parts_version(self) -> str:
        """A hash of the file that a parameter names, where that file holds code; part of a cell's key. Empty where the
        method's own code says it all."""
        return ""

    def score(self, view: View) -> np.ndarray:
        """Suspicion of each training sample, (n,) float64, higher = more suspicious.

        By default the mean of `attribute` over the reference samples.

        Raises:
            Unsupported: the view lacks what the method needs.
        """
        if type(self).attribute is Method.attribute:
            raise NotImplementedError(f"{type(self).__name__} implements neither score nor attribute")
        return np.asarray(self.attribute(view).mean(axis=0))

    def flag(self, view: View, scores: np.ndarray) -> np.ndarray | Flags | None:
        """The samples that the method takes for wrong, (n,) bool, or `Flags` with an estimate of their number.

        None, by default, for a method without a threshold of its own.

        Args:
            scores: as from `score`.
        """
        return None

    def attribute(self, view: View) -> np.ndarray:
        """How much each training sample harms each reference sample, (n_reference, n), float64.

        Raises:
            Unsupported: the method gives one score per sample and no attribution, or the view lacks what it needs.
        """
        raise Unsupported("it gives one score per training sample and attributes nothing to reference samples")
