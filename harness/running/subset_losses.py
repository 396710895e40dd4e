"""The truth of an `LdsTask`: test losses of models that are trained on random parts of the training samples.

    <user's cache>/influence-harness/subset_losses/<task>-<hash>-<seed>-<repeat>.npz

The losses depend on no method. They are computed once, kept in the user's cache, and used by later runs too. A
computation that is cut off goes on with the repeat where it was. The hash covers the parameters and the versions of
code, data and torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from harness.data.kept_files import read_arrays, write_arrays
from harness.interfaces.clock import timed
from harness.interfaces.lds_task import LdsTask
from harness.interfaces.params import values_of
from harness.interfaces.split import Split
from harness.interfaces.telling import tell
from harness.randomness import random_subsets
from harness.seeds import derive
from harness.selection.versions import code_version, machinery_version

NO_PART = ("budget", "retrain", "repair", "probed", "repeats")
"""Parameters of a task that do not change the losses of one repeat."""


@dataclass(frozen=True, eq=False)
class SubsetLosses:
    """Losses of models that are trained on random parts of the training samples.

    Args:
        subsets: which training samples each model learns, (m, n) bool.
        losses: the cross-entropy of each asked test sample, (repeats, m, n_asked) float32.
        seconds: what training and reading out took when it was done.
    """

    subsets: np.ndarray
    losses: np.ndarray
    seconds: float


def subset_losses(task: LdsTask, split: Split, seed: int) -> SubsetLosses:
    """The losses, from the user's cache or computed.

    Args:
        seed: of the run.
    """
    rng = np.random.default_rng(derive("subsets", task.name, seed))
    subsets = random_subsets(len(split.train), task.subsets, task.kept, rng)
    made = [_repeat(task, split, subsets, seed, repeat) for repeat in range(task.repeats)]
    return SubsetLosses(subsets, np.stack([losses for losses, _ in made]), sum(seconds for _, seconds in made))


def _repeat(task: LdsTask, split: Split, subsets: np.ndarray, seed: int, repeat: int) -> tuple[np.ndarray, float]:
    """The losses of one model per subset, (m, n_asked), and the seconds that they took."""
    path = _file(task, split, seed, repeat)
    if path is None:
        return _computed(task, split, subsets, seed, repeat)
    with FileLock(path.with_suffix(".lock")):  # several runs at a time compute it once
        known = _read(path, subsets, task.asked)
        if known is None:
            known = _computed(task, split, subsets, seed, repeat)
            _write(path, subsets, *known)
    return known


def _computed(task: LdsTask, split: Split, subsets: np.ndarray, seed: int, repeat: int) -> tuple[np.ndarray, float]:
    losses = np.empty((len(subsets), task.asked), dtype=np.float32)
    asked, start = split.asked, derive("subset models", task.name, seed, repeat)
    with timed(split.device) as watch:
        for i, model in enumerate(chain.from_iterable(task.train_all([(split, list(subsets), start)]))):
            losses[i] = task.outputs(model, asked).losses()
            tell(f"model {repeat * len(subsets) + i + 1} of {task.repeats * len(subsets)} on parts of the data")
    return losses, watch.seconds


def _file(task: LdsTask, split: Split, seed: int, repeat: int) -> Path | None:
    """Where the losses are kept; None if the user's cache cannot be written."""
    import pooch

    depends = {
        "params": {name: value for name, value in values_of(task).items() if name not in NO_PART},
        "code": [code_version(type(task)), machinery_version()],
        "data": task.data_version(),
        "torch": [torch.__version__, split.device],
    }
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(pooch.os_cache("influence-harness")) / "subset_losses"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder / f"{task.name}-{digest}-{seed}-{repeat}.npz"
    return None


def _read(path: Path, subsets: np.ndarray, asked: int) -> tuple[np.ndarray, float] | None:
    """What a file holds; None if it is missing, damaged, or of other subsets."""
    stored = read_arrays(path)
    losses, seconds = stored.get("losses"), stored.get("seconds")
    if losses is None or seconds is None or seconds.dtype != np.float64 or seconds.ndim:
        return None
    same = np.array_equal(stored.get("subsets", np.empty(0)), np.packbits(subsets, axis=1))
    fits = same and losses.shape == (len(subsets), asked) and losses.dtype == np.float32
    return (losses, float(seconds)) if fits else None


def _write(path: Path, subsets: np.ndarray, losses: np.ndarray, seconds: float) -> None:
    write_arrays(path, subsets=np.packbits(subsets, axis=1), losses=losses, seconds=np.array(seconds))
