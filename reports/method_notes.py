"""What a page says of each method: its summary, what it uses, and its source."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass

from harness.selection.registry import METHODS


@dataclass(frozen=True)
class MethodNote:
    """A registered method in words; `source` is a paper, a section or an equation."""

    name: str
    title: str
    summary: str
    uses: tuple[str, ...]
    source: str


def method_notes(names: Iterable[str]) -> list[MethodNote]:
    """Notes of the methods that are registered here, by title."""
    known = METHODS.classes()
    notes = []
    for name in set(names) & known.keys():
        cls = known[name]
        summary = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        notes.append(MethodNote(name, cls.title, summary, tuple(_uses(cls)), getattr(cls, "source", "")))
    return sorted(notes, key=lambda note: note.title.lower())


def _uses(cls: type) -> Iterable[str]:
    """What the class declares; a class that decides by its parameters declares nothing."""
    uses = getattr(cls, "uses", ())
    return uses if isinstance(uses, tuple | list) else ()
