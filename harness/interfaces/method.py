"""The interface of a method: a frozen dataclass that scores a view."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
        name: the method's name on the command line.
        title: the name of the method's row in reports; ``name`` if left out.
        source: where the method comes from (paper, section).
        requires: modules that the method imports for scoring. A missing module makes the method unavailable.
        protocols: parameter values by protocol, where they differ from the defaults. The defaults are the values of
            the fair protocol.
        needs: how to get what ``requires`` names, for `list`.
        named_only: whether ``all`` and globs leave the method out.
        trims: False for a method that flags nothing (the untrimmed model).
        version: increase this number when scores change although the code of the method's module does not.
        expected_failures: the reason for each conformance check that the method is known to fail, by check name.

    Args:
        threshold: what the method flags of its own accord: samples above a threshold on the scores, by a ``mixture`` of
            two Gaussians or by ``otsu``; ``none`` leaves it to `flag`.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    requires: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    needs: ClassVar[str] = ""
    named_only: ClassVar[bool] = False
    trims: ClassVar[bool] = True
    version: ClassVar[int] = 1
    expected_failures: ClassVar[Mapping[str, str]] = {}

    threshold: Literal["mixture", "otsu"] | None = option(None)

    @property
    def full_title(self) -> str:
        """The name of the method's row in reports. A method can add what a parameter names, such as a file."""
        return self.title or self.name

    @property
    def uses(self) -> tuple[str, ...]:
        """The parts of the view that the method uses: labels, probs, features, gradients, clean validation, noisy
        validation, class labels, retraining. If empty, reports print the parts that the run saw in use."""
        return ()

    def check(self) -> None:  # noqa: B027 - optional
        """Raise a `RequestError` if something that a parameter names is missing; called before anything runs."""

    def parts_version(self) -> str:
        """A hash of the code file that a parameter names. The hash is part of a cell's key. The hash is empty if no
        parameter names a code file."""
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


@dataclass(frozen=True)
class TruthControl(Method):
    """A control that is told which labels are wrong: an upper bound, no detector. ``all`` leaves it out."""

    named_only: ClassVar[bool] = True

    @property
    def uses(self) -> tuple[str, ...]:
        return ("true labels",)

    def score(self, view: View) -> np.ndarray:
        raise Unsupported("it needs to be told which labels are wrong, and no view knows")

    @abstractmethod
    def score_truth(self, wrong: np.ndarray) -> np.ndarray:
        """Suspicion of each training sample, (n,) float64.

        Args:
            wrong: which labels are wrong, (n,) bool.
        """
