"""The two kinds of errors, and helpers that write messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class RequestError(ValueError):
    """The request is not valid or cannot be run. The message is one sentence. The command line exits with code 2."""


class Unsupported(Exception):
    """A method cannot score this view (no reference set, no features, …); the cell is recorded as ``skipped``."""


_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0xFFFE, 0xFFFF], "�") | {ord("\n"): "\n", ord("\t"): "\t"}


def without_controls(text: str) -> str:
    """A text of unknown origin as a terminal may show it: escape sequences could move the cursor or fake output."""
    return text if text.isprintable() else text.translate(_CONTROLS)


MANY = 12
"""More names than a sentence should list."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest valid choice, or an empty string."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown(kind: str, name: str, choices: Iterable[str], command: str = "") -> RequestError:
    """The error for a name that is not among ``choices``. It lists them, unless they are many and one is near.

    Args:
        command: what lists them; many are not listed here then.
    """
    known = sorted(choices)
    near = did_you_mean(name, known)
    if len(known) > MANY and (near or command):
        there = f": {command}" if command else ""
        return RequestError(f"unknown {kind} {name!r}{near}; {len(known)} are known{there}")
    return RequestError(f"unknown {kind} {name!r}{near}; known: {', '.join(known) or 'none'}")


def note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    """A warning as one line, without the place in our code, which says nothing to a user."""
    return f"note: {message}\n"
