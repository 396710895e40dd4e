"""Seeds derived from named axes, so that what should be paired is paired and nothing depends on global state."""

from __future__ import annotations

import hashlib
import json


def derive(*axes: str | int) -> int:
    """A 32-bit seed from a tuple of names and numbers; the same axes always give the same seed.

    `derive("data", task, seed)` and `derive("model", task, seed)` are shared by all methods of one seed,
    `derive("method", task, method, seed)` is a method's own.
    """
    digest = hashlib.sha256(json.dumps(axes).encode()).digest()
    return int.from_bytes(digest[:4], "big")
