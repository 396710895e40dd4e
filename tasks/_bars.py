"""Progress of long computations on standard error."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def bar(total: int, what: str, unit: str) -> tqdm[Any]:
    """A bar on a terminal; a line every half minute elsewhere; nothing if nothing is to be done."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=total == 0, mininterval=interval, file=sys.stderr)
