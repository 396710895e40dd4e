"""Which stored results a selection of methods means."""

from __future__ import annotations

from harness.interfaces.spec import parse_selection, parse_term


def selected(method: str, selection: str) -> bool:
    """Whether a stored method's spec is among a selection such as ``outlier_*,datainf[damping=0.01],-outlier_l1``."""
    asked, chosen = parse_term(method), False
    for term in parse_selection(selection):
        agrees = all(_alike(asked.params.get(key), value) for key, value in term.params.items())
        if term.matches(asked.pattern) and agrees:
            chosen = not term.exclude
    return chosen


def _alike(ours: str | None, theirs: str) -> bool:
    """Whether two texts mean the same value, such as 1, 1.0 and 1e0, or yes and True."""
    words = {"true": "yes", "on": "yes", "false": "no", "off": "no"}
    try:
        if ours is not None and words.get(ours.lower(), ours) == words.get(theirs.lower(), theirs):
            return True
        return ours is not None and float(ours) == float(theirs)
    except ValueError:
        return False
