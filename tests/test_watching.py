"""Training dynamics and checkpoints: the detectors that use them against loops over the same training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.interfaces.dynamics import Dynamics, Recording
from harness.interfaces.outputs import Outputs
from harness.interfaces.trained import Training
from tests.conftest import trained_view


def watched(logits: np.ndarray, labels: np.ndarray) -> harness.View:
    """A view whose training showed these logits, (T, n, c)."""
    times = np.arange(1.0, len(logits) + 1)
    dynamics = Dynamics(logits.astype(np.float16), times, np.ones(len(logits)))
    outputs = Outputs(torch.from_numpy(labels), torch.from_numpy(logits[-1]).softmax(1))
    return harness.View(labels, lambda: outputs, training=Training(recording=lambda: Recording(dynamics, [])))


@pytest.fixture
def training() -> tuple[harness.View, np.ndarray, np.ndarray]:
    """A view of a made-up training, its logits as stored, and its labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(7, 30, 4)).astype(np.float16).astype(np.float64)
    labels = rng.integers(0, 4, 30)
    return watched(logits, labels), logits, labels


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum(-1, keepdims=True)


@pytest.mark.parametrize("margin", ["logits", "probs"])
def test_aum_is_its_definition(training: Any, margin: str) -> None:
    view, logits, labels = training
    values = logits if margin == "logits" else softmax(logits)

    scores = harness.method("aum", margin=margin).score(view)

    for i in range(30):
        margins = [at[i, labels[i]] - max(at[i, k] for k in range(4) if k != labels[i]) for at in values]
        assert scores[i] == pytest.approx(-np.mean(margins), rel=1e-5)


def test_data_maps_and_forgetting_are_their_definitions(training: Any) -> None:
    view, logits, labels = training
    given = softmax(logits)[:, np.arange(30), labels]
    right = logits.argmax(2) == labels

    maps = {name: harness.method("data_maps", statistic=name).score(view)
            for name in ("confidence", "variability", "correctness")}  # fmt: skip
    forgetting = harness.method("forgetting").score(view)

    np.testing.assert_allclose(maps["confidence"], -given.mean(0), rtol=1e-5)
    np.testing.assert_allclose(maps["variability"], given.std(0), rtol=1e-5)
    np.testing.assert_allclose(maps["correctness"], -right.mean(0))
    for i in range(30):
        events = sum(right[t - 1, i] and not right[t, i] for t in range(1, 7))
        assert forgetting[i] == (events if right[:, i].any() else 7)


def test_loss_average_and_el2n_are_their_definitions(training: Any) -> None:
    view, logits, labels = training
    probs = softmax(logits)
    losses = -np.log(probs[:, np.arange(30), labels])
    average = losses[0]
    for loss in losses[1:]:
        average = 0.5 * average + 0.5 * loss

    ema = harness.method("loss_ema", decay=0.5).score(view)
    el2n = harness.method("el2n", progress=0.4).score(view)  # of 7 moments, the third

    weights = 0.5 ** np.arange(6, -1, -1)
    np.testing.assert_allclose(ema, (weights[:, None] * losses).sum(0) / weights.sum(), rtol=1e-5)
    assert not np.allclose(ema, average)  # the average's start is taken out of it
    np.testing.assert_allclose(el2n, np.linalg.norm(probs[2] - np.eye(4)[labels], axis=1), rtol=1e-5)


def test_tracin_is_a_sum_over_trainings_of_other_lengths() -> None:
    """Every checkpoint is the model of a training that ends there, weighted by the steps since the one before."""
    task, split, view = trained_view()
    epochs = [int(made.epoch) for made in view.checkpoints]
    expected, own = np.zeros(200), np.zeros(200)
    for before, epoch in zip([0, *epochs], epochs, strict=False):
        shorter = harness.task("digits[n_train=200]", steps=epoch)
        then = shorter.view(shorter.train(split, None, 3), split)
        weight = task.lr * (epoch - before)
        expected += weight * harness.method("gradient_tracing").score(then)
        own += weight * then.gradients.norm(2) ** 2

    scores = harness.method("tracin_cp").score(view)
    self_influence = harness.method("tracin_self").score(view)

    assert len(epochs) == 5
    assert epochs[-1] == 30
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(self_influence, own, rtol=1e-4)
    assert harness.method("tracin_cp").attribute(view).shape == (200, 200)


def test_grand_looks_at_the_checkpoint_nearest_to_its_time() -> None:
    _, _, view = trained_view()

    early = harness.method("grand", progress=0.2).score(view)
    late = harness.method("grand", progress=1.0).score(view)

    np.testing.assert_allclose(early, view.checkpoints[0].view.gradients.norm(2))
    np.testing.assert_allclose(late, harness.method("outlier_l2").score(view), rtol=1e-5)
