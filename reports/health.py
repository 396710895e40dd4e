"""What a reader should know of a method's health in its runs before trusting the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def health_notes(healths: Sequence[Mapping[str, Any]], sizes: Sequence[int], flags: bool) -> list[str]:
    """One sentence per doubt.

    Args:
        healths: the records' health, one per seed.
        sizes: their numbers of training samples.
        flags: whether samples were flagged by the scores in any seed.
    """
    notes = []
    shares = [health.get("largest_tie", 0) / n for health, n in zip(healths, sizes, strict=True)]
    tied = [share for share in shares if share > 0.5]
    if tied and flags:
        notes.append(
            f"in {len(tied)} of {len(healths)} seeds, up to {100 * max(tied):.0f} % of the scores are equal up to "
            "rounding; the order of equal scores is chance"
        )
    bad = [health["non_finite"] for health in healths if health.get("non_finite")]
    if bad:
        notes.append(f"up to {max(bad)} scores are not finite in {len(bad)} of {len(healths)} seeds")
    solved = [
        block for health in healths for block in health.values() if isinstance(block, dict) and "converged" in block
    ]
    loose = [block for block in solved if not block["converged"]]
    if loose:
        worst = max(float(block["relative_residual"]) for block in loose)
        most = max(int(block["iterations"]) for block in loose)
        notes.append(
            f"not converged in {len(loose)} of {len(solved)} solves "
            f"({most} iterations, relative residual up to {worst:.2g})"
        )
    left = [health["left_behind"] for health in healths if health.get("left_behind")]
    if left:
        named = ", ".join(dict.fromkeys(str(what) for some in left for what in some))
        notes.append(
            f"it left changed in its process: {named}; this run put it back or took another process, and a run with "
            "--no-isolate would not"
        )
    return notes
