"""The tasks: what they draw, how they flip, what they hold back, and how they train."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from tasks import _noise


@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_moons_are_the_papers(protocol: str) -> None:
    task = harness.task("moons", protocol=protocol)
    split, truth = task.load(4)
    wrong = truth != split.train.labels.numpy()
    assert len(truth) == 250
    assert np.bincount(truth).tolist() == [125, 125]
    assert np.bincount(truth[wrong]).tolist() == [10, 10]
    if protocol == "paper":
        assert len(split.test) == 100
        assert not split.references
        assert (task.width, task.head, task.steps, task.lr) == (2, "sigmoid", 5000, 1e-3)
    else:
        assert len(split.test) == 1000
        assert {name: len(s) for name, s in split.references.items()} == {"validation": 100, "noisy_validation": 100}


def test_the_reference_code_standardises_by_the_first_rows() -> None:
    for name in ("moons", "blobs"):
        plain = harness.task(name, protocol="paper", standardise=False).load(4)[0]
        split = harness.task(name, protocol="paper").load(4)[0]
        first = plain.train.inputs[: 3 * len(plain.train) // 4].double()
        expected = (plain.test.inputs.double() - first.mean(0)) / first.std(0, correction=0)
        torch.testing.assert_close(split.test.inputs.double(), expected, rtol=1e-5, atol=1e-5)
    assert not harness.task("blobs", protocol="paper").recipe(2).head_bias
    assert harness.task("blobs").recipe(2).head_bias


def test_blobs_are_the_papers() -> None:
    split, truth = harness.task("blobs", protocol="paper").load(4)
    wrong = truth != split.train.labels.numpy()
    assert (len(truth), len(split.test), np.bincount(truth[wrong]).tolist()) == (150, 100, [5, 5])


def test_the_validation_set_is_no_part_of_the_reported_test_set() -> None:
    for name in ("moons", "blobs", "digits"):
        split, _ = harness.task(name).load(1)
        test = {row.tobytes() for row in split.test.inputs.numpy()}
        train = {row.tobytes() for row in split.train.inputs.numpy()}
        held = {row.tobytes() for row in split.references["validation"].inputs.numpy()}
        assert not test & held, name
        assert len(train & held) <= (1 if name == "digits" else 0), name  # digits has one repeated image


def test_seeds_decide_the_data() -> None:
    for name in ("moons", "blobs", "digits"):
        task = harness.task(name)
        (a, at), (b, bt), (c, _) = task.load(1), task.load(1), task.load(2)
        assert torch.equal(a.train.inputs, b.train.inputs)
        assert torch.equal(a.train.labels, b.train.labels)
        assert np.array_equal(at, bt)
        assert not torch.equal(a.train.inputs, c.train.inputs)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("noise", ["symmetric", "pair", "feature"])
def test_digit_noise_has_its_rate_and_kind(noise: str, rate: float) -> None:
    split, truth = harness.task("digits", noise=noise, rate=rate).load(0)
    given = split.train.labels.numpy()
    wrong = given != truth
    if noise == "feature":
        assert abs(wrong.mean() - rate) < 0.03
    else:
        assert wrong.sum() == round(rate * len(truth))
    if noise == "pair":
        assert set((given - truth)[wrong] % 10) <= {1}
    if noise == "symmetric" and rate:
        assert len(set((given - truth)[wrong] % 10)) == 9


def test_feature_dependent_noise_depends_on_the_features() -> None:
    """Equal images of one class share their likely wrong classes; symmetric noise would give each 224 ± 15."""
    rng = np.random.default_rng(0)
    inputs = np.repeat(rng.random((1, 20)), 4000, axis=0)
    given = _noise.feature_dependent(inputs, np.zeros(4000, dtype=int), 10, 0.5, rng)
    counts = np.bincount(given[given != 0], minlength=10)
    assert counts.max() > 400
    assert counts[1:].min() < 100


def test_noisy_validation_is_as_noisy_as_training() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 30_000)
    given = _noise.pair(truth, 3, 0.3, rng)
    clean = rng.integers(0, 3, 30_000)
    noisy = _noise.noisy_like(clean, truth, given, 3, rng)
    assert abs((noisy != clean).mean() - 0.3) < 0.01
    assert set((noisy - clean)[noisy != clean] % 3) == {1}


IMPOSSIBLE = (
    "digits[rate=1]",
    "digits[n_train=1700]",
    "moons[budget=1.5]",
    "moons[n_validation=-5]",
    "blobs[n_test=100]",
    "cifar10n[n_train=60000]",
    "cifar10n[n_validation=10000]",
    "cifar10n[epochs=0]",
)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_parameters_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="must"):
        harness.task(name)
