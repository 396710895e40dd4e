"""Seeds derived from names and numbers. Methods get paired seeds, and no seed depends on global state."""

from __future__ import annotations

import hashlib
import json


def derive(*axes: str | int) -> int:
    """A 32-bit seed from a tuple of names and numbers; the same axes always give the same seed.

    All methods of one seed share `derive("data", task, seed)` and `derive("model", task, seed)`. Each method has its
    own `derive("method", task, method, seed)`.
    """
    digest = hashlib.sha256(json.dumps(axes).encode()).digest()
    return int.from_bytes(digest[:4], "big")
