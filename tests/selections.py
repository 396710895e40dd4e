"""Selections, for tests."""

from __future__ import annotations

from typing import Any


class Plain:
    def __init__(self, power: int = 1) -> None:
        self.power = power

    def score(self, view: Any) -> Any:
        return view.labels
