"""The truth of an `LdsTask`: test losses of models that are trained on random parts of the training samples.

    <user's cache>/influence-harness/subset_losses/<task>-<seed>-<hash>.npz

The losses depend on no method. They are computed once, kept in the user's cache, and used by later runs too. The hash
covers parameters, seed, and the versions of code, data and torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from harness.interfaces.clock import timed
from harness.interfaces.lds_task import LdsTask
from harness.interfaces.params import values_of
from harness.interfaces.split import Split
from harness.interfaces.telling import tell
from harness.randomness import random_subsets
from harness.seeds import derive
from harness.selection.versions import code_version, machinery_version

NO_PART = ("budget", "retrain", "repair", "probed")
"""Parameters of a task that do not change the losses."""


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
    shape = (task.repeats, task.subsets, task.asked)
    path = _file(task, split, seed)
    if path is None:
        return _computed(task, split, subsets, seed)
    with FileLock(path.with_suffix(".lock")):  # several runs at a time compute it once
        known = _read(path, subsets, shape)
        if known is None:
            known = _computed(task, split, subsets, seed)
            _write(path, known)
    return known


def _computed(task: LdsTask, split: Split, subsets: np.ndarray, seed: int) -> SubsetLosses:
    losses = np.empty((task.repeats * task.subsets, task.asked), dtype=np.float32)
    starts = [derive("subset models", task.name, seed, repeat) for repeat in range(task.repeats)]
    asked = split.references["test"]
    with timed(split.device) as watch:
        models = chain.from_iterable(task.train_all([(split, list(subsets), start) for start in starts]))
        for i, model in enumerate(models):
            losses[i] = task.outputs(model, asked).losses()
            tell(f"model {i + 1} of {len(losses)} on parts of the data")
    return SubsetLosses(subsets, losses.reshape(task.repeats, task.subsets, task.asked), watch.seconds)


def _file(task: LdsTask, split: Split, seed: int) -> Path | None:
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
            return folder / f"{task.name}-{seed}-{digest}.npz"
    return None


def _read(path: Path, subsets: np.ndarray, shape: tuple[int, ...]) -> SubsetLosses | None:
    """What a file holds; None if it is missing, damaged, or of other parts."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(path) as stored:
        losses, seconds = stored["losses"], float(stored["seconds"])
        same = np.array_equal(stored["subsets"], np.packbits(subsets, axis=1))
        if same and losses.shape == shape and losses.dtype == np.float32:
            return SubsetLosses(subsets, losses, seconds)
    return None


def _write(path: Path, made: SubsetLosses) -> None:
    """Store the losses whole: into a temporary file, then into place."""
    packed = np.packbits(made.subsets, axis=1)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez_compressed(file, subsets=packed, losses=made.losses, seconds=made.seconds)
    os.replace(file.name, path)
