"""Saves, seeds and restores the global random generators of Python, NumPy and torch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def _states() -> dict[str, Any]:
    import torch

    return {
        "random": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global one is the subject
        "torch": torch.get_rng_state(),
    }


def _restore(states: dict[str, Any]) -> None:
    import torch

    random.setstate(states["random"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])


@contextmanager
def left_as_found() -> Iterator[list[str]]:
    """Restores the global generators after the block. The list then names the generators that changed."""
    before = _states()
    moved: list[str] = []
    try:
        yield moved
    finally:
        after = _states()
        moved += [name for name in before if _bytes_of(before[name]) != _bytes_of(after[name])]
        _restore(before)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seeds the global generators for the block, and restores them afterwards."""
    import torch

    with left_as_found():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield


def _bytes_of(state: Any) -> bytes:
    """A generator's state as bytes."""
    import pickle

    return pickle.dumps(state.numpy() if hasattr(state, "numpy") else state)


def random_subsets(n: int, count: int, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Random subsets of n samples, all with the share ``kept`` of the samples, and at least one, (count, n) bool."""
    subsets = np.zeros((count, n), dtype=bool)
    for subset in subsets:
        subset[rng.permutation(n)[: max(1, round(kept * n))]] = True
    return subsets
