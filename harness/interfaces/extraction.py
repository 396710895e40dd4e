"""What a view computes on first use, shared by all methods, and what of it one method has asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from harness.interfaces.parts import Parts

KINDS = {"recording": "recording", "out_of_sample_probs": "cross_validation"}
"""The kind of cost of each part that is more than a pass over the data."""


class Extraction:
    """The parts of a view with their times; methods read them through `harness.interfaces.view.View`.

    Args:
        device: where parts are computed, for timing.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._parts = Parts(device)
        self._asked: set[str] = set()
        self._prefix = ""

    def _get(self, name: str, compute: Callable[[], Any]) -> Any:
        self._asked.add(self._prefix + name)
        return self._parts.get(self._prefix + name, compute)

    def _shared(self, whole: Extraction, prefix: str = "") -> Self:
        """This view, with another view's parts; with a prefix also its record of use, as a part of that view."""
        self._parts = whole._parts
        if prefix:
            self._asked, self._prefix = whole._asked, prefix
        return self

    def provide(self, name: str, value: Any, seconds: float) -> None:
        """Give a part that was computed elsewhere, with the time that it took."""
        self._parts.values[name], self._parts.seconds[name] = value, seconds
        self._parts.needs[name] = set()

    @property
    def used(self) -> set[str]:
        """Names of the parts asked for through this view, and of those they were made from."""
        return self._parts.with_needs(self._asked)

    @property
    def extract_seconds(self) -> float:
        """Seconds that the parts used here took, whichever method asked for them first."""
        return sum(self._parts.seconds.get(name, 0.0) for name in self.used)

    @property
    def cost(self) -> dict[str, float]:
        """The seconds of `extract_seconds` by kind: ``extraction``, ``recording`` and ``cross_validation``."""
        cost = dict.fromkeys(("extraction", *KINDS.values()), 0.0)
        for name in self.used:
            cost[KINDS.get(name.partition(" ")[0], "extraction")] += self._parts.seconds.get(name, 0.0)
        return cost

    @property
    def computed_seconds(self) -> float:
        """Seconds of all parts computed so far, by any method."""
        return sum(self._parts.seconds.values())
