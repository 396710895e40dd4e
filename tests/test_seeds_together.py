"""Several seeds of a small task in one program: the same results, and no seed suffers from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.seeds import derive
from harness.selection.registry import TASKS
from tests.runs import FAST, run, scores

Wanted = Sequence[tuple[Any, Sequence[Any], int]]


def before_training(monkeypatch: pytest.MonkeyPatch, act: Callable[[Wanted], None]) -> None:
    """Let a function see what moons is asked to train, before it is trained."""
    cls = TASKS.get("moons")
    original = cls.train_all

    def train_all(self: Any, wanted: Wanted) -> Any:
        act(wanted)
        return original(self, wanted)

    monkeypatch.setattr(cls, "train_all", train_all)


@pytest.mark.slow
def test_seeds_together_or_alone_give_the_same(tmp_path: Path) -> None:
    """Seeds trained as one program, seed by seed (with a time limit), and in two jobs: scores and accuracies agree."""
    together = run(tmp_path / "a", FAST, "moons,blobs", 3)
    by_time = run(tmp_path / "b", FAST, "moons,blobs", 3, timeout=300)
    by_jobs = run(tmp_path / "c", FAST, "moons,blobs", 3, jobs=2)
    values = ["task", "method", "seed", "metric", "value"]
    for other in (by_time, by_jobs):
        pd.testing.assert_frame_equal(
            together[values].sort_values(values[:-1], ignore_index=True),
            other[values].sort_values(values[:-1], ignore_index=True),
        )
    for key, expected in scores(tmp_path / "a").items():
        np.testing.assert_array_equal(expected, scores(tmp_path / "b")[key])


def test_a_seed_that_cannot_be_loaded_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = TASKS.get("moons")
    original, failing = cls.load, derive("data", "moons", 1)

    def load(self, seed):
        if seed == failing:
            raise OSError("no data for this seed")
        return original(self, seed)

    monkeypatch.setattr(cls, "load", load)
    frame = run(tmp_path, "none,random", seeds=3)
    assert set(frame.query("status == 'ok'")["seed"]) == {0, 2}
    failed = frame.query("status == 'failed'")
    assert set(failed["seed"]) == {1}
    assert failed["error"].str.contains("no data for this seed").all()


@pytest.mark.parametrize("stage", ["train", "retrain"])
def test_a_seed_that_cannot_be_trained_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    failing = derive("model", "moons", 1)

    def fail(wanted: Wanted) -> None:
        for _, keeps, seed in wanted:
            if seed == failing and (keeps[0] is None) == (stage == "train"):
                raise SystemExit("this seed cannot be trained")

    before_training(monkeypatch, fail)
    frame = run(tmp_path, "outlier_l2,random", seeds=3)
    assert set(frame.query("status == 'ok'")["seed"]) == {0, 2}
    failed = frame.query("status == 'failed'")
    assert set(failed["seed"]) == {1}
    assert failed["error"].str.contains("this seed cannot be trained").all()
    assert (failed["n_flagged"].notna() == (stage == "retrain")).all()  # its scores are kept


def test_base_models_are_asked_for_without_a_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    before_training(monkeypatch, lambda wanted: seen.extend(keep is None for _, keeps, _ in wanted for keep in keeps))
    run(tmp_path, "outlier_l2", seeds=3)
    assert seen == [True] * 3 + [False] * 3
