"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
import harness.selection.registry
from harness.running.services import training
from tests.native import cifar10, cifar100, imagenet  # noqa: F401 - fixtures


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def last_layer(n: int, c: int, d: int, seed: int = 0, n_ref: int = 9) -> dict[str, np.ndarray]:
    """Random last-layer arrays in float64, with a reference set."""
    rng = np.random.default_rng(seed)

    def part(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = rng.standard_normal((count, c)) * 2
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return rng.standard_normal((count, d)), probs, rng.integers(0, c, count)

    features, probs, labels = part(n)
    ref = part(n_ref)
    return {
        "features": features,
        "probs": probs,
        "labels": labels,
        "reference_features": ref[0],
        "reference_probs": ref[1],
        "reference_labels": ref[2],
    }


def view_of(arrays: dict[str, np.ndarray], **options: object) -> harness.View:
    return harness.View.from_arrays(**arrays, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that need it skip with a reason where there is none."""
    folder = os.environ.get("HARNESS_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-py").is_dir():
        pytest.skip("HARNESS_DATA names no folder with cifar-10-batches-py and CIFAR-10_human.pt")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests leave nothing in the user's cache, and find nothing there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _global_random_state_is_left_alone():
    """Seeds are derived: no test may leave torch's or numpy's global generator moved."""
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    yield
    after = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    assert torch.equal(before[0], after[0]), "torch's global generator was moved"
    assert before[1] == after[1], "numpy's global generator was moved"


pytest_plugins = ["pytester"]


def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test register methods and tasks that are gone after it."""
    for registry in (harness.selection.registry.METHODS, harness.selection.registry.TASKS):
        monkeypatch.setattr(registry, "_classes", dict(registry.classes()))


def trained_view(name: str = "digits[n_train=200,steps=30]") -> tuple[Any, Any, harness.View]:
    """A task, its split, and the view of a model whose training was recorded and can be repeated."""
    task = harness.task(name)
    split, _ = task.load(0)
    view = task.view(task.train(split, None, 3), split)
    return task, split, view.fresh(1, training(task, split, 3, 4))
