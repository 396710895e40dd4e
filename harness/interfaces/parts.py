"""The parts of a view: computed on first use, once for all methods, and timed apart from the methods' own work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.interfaces.clock import timed


@dataclass
class Parts:
    """Values, each computed once. The seconds of a value exclude the seconds of the parts that it needed."""

    device: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    needs: dict[str, set[str]] = field(default_factory=dict)
    stack: list[list[Any]] = field(default_factory=list)  # [name, seconds spent in nested parts]

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        if self.stack:
            self.needs[self.stack[-1][0]].add(name)
        if name not in self.values:
            self.needs[name] = set()
            self.stack.append([name, 0.0])
            try:
                with timed(self.device) as watch:
                    value = compute()
            finally:
                _, nested = self.stack.pop()
            self.values[name] = value
            self.seconds[name] = watch.seconds - nested
            if self.stack:
                self.stack[-1][1] += watch.seconds
        return self.values[name]

    def with_needs(self, names: set[str]) -> set[str]:
        """The named parts, and all parts that they were computed from."""
        reached, todo = set(names), list(names)
        while todo:
            new = self.needs.get(todo.pop(), set()) - reached
            reached |= new
            todo.extend(new)
        return reached
