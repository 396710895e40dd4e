"""The tasks: what they draw, how they flip, what they hold back, and how they train."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from tasks import _mlp, _noise


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


def test_batched_training_is_adam_on_the_kept_samples() -> None:
    """One stacked network against torch.nn modules trained by torch's Adam on the kept samples alone."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=rng), torch.randint(0, 3, (30,), generator=rng)
    keep = torch.ones(2, 30, dtype=torch.bool)
    keep[1, :7] = False
    recipe = _mlp.Recipe((5,), 3, True, 50, 1e-2, 1e-4)
    stacks = [s for batch in _mlp.train(x, y, keep, recipe, seed=9) for s in batch]
    start = _mlp._initial(4, 1, recipe, 9, torch.device("cpu"))
    for mask, stack in zip(keep, stacks, strict=True):
        with torch.random.fork_rng():
            net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
        for layer, weight, bias in zip((net[0], net[2]), start.weights, start.biases, strict=True):
            layer.weight.data, layer.bias.data = weight[0].detach().clone(), bias[0].detach().clone()
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
        for _ in range(50):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x[mask]), y[mask]).backward()
            optimiser.step()
        torch.testing.assert_close(stack.logits(stack.features(x))[0], net(x), rtol=1e-4, atol=1e-5)


def test_batches_are_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    recipe = _mlp.Recipe((4,), 2, True, 20, 1e-2, 0.0)
    keeps = torch.rand(5, 20, generator=torch.Generator().manual_seed(1)) < 0.8
    whole = [s for batch in _mlp.train(x, y, keeps, recipe, 0) for s in batch]
    monkeypatch.setattr(_mlp, "BATCH_BYTES", 2 * 4 * 4 * 20 * 8)
    batches = list(_mlp.train(x, y, keeps, recipe, 0))
    assert [len(b) for b in batches] == [2, 2, 1]
    for a, b in zip(whole, (s for batch in batches for s in batch), strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a.weights, b.weights, strict=True))


def test_initial_weights_are_torch_linears() -> None:
    recipe = _mlp.Recipe((1000,), 2, True, 0, 1e-2, 0.0)
    stack = _mlp._initial(4, 1, recipe, 0, torch.device("cpu"))
    assert abs(stack.weights[0]).max() <= 0.5
    assert abs(stack.weights[0]).max() > 0.49
    assert abs(stack.biases[1]).max() <= 1000**-0.5


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
