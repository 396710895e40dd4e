"""Sets of prompts in files, for tests."""

from __future__ import annotations

from typing import Any

import harness

SIZES = "per_class=5,test_per_class=2,epochs=2,pretraining=1,pretraining_per_class=8"


SMALL = {key: int(value) for key, value in (part.split("=") for part in SIZES.split(","))}


def small(name: str = "prompts_math", **params: Any) -> Any:
    return harness.task(name, preset="smoke", **{**SMALL, **params})
