"""Batched training against torch.nn modules trained one after another, and against itself in other company."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

import harness
from tasks import _mlp_training
from tasks._mlp import Recipe, Stack
from tasks._mlp_training import Job, initial, train

RECIPES = {
    "softmax": Recipe((5,), 3, True, 60, 1e-2, 1e-3),
    "deep": Recipe((6, 4), 2, True, 60, 1e-2, 0.0),
    "no head bias": Recipe((3,), 1, False, 60, 1e-2, 1e-4),
    "logistic": Recipe((), 1, True, 60, 0.1, 1e-2),
    "linear softmax without bias": Recipe((), 3, False, 60, 0.1, 0.0),
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def jobs_of(recipe: Recipe, dtype: torch.dtype = torch.float64, n: int = 30, models: int = 3) -> list[Job]:
    """Two data sets, two starts, several kept sets each."""
    rng = torch.Generator().manual_seed(0)
    jobs = []
    for seed in (9, 4):
        labels = torch.randint(0, max(2, recipe.outputs), (n,), generator=rng)
        keeps = torch.rand(models, n, generator=rng) < 0.8
        keeps[0] = True
        jobs.append(Job(torch.randn(n, 4, generator=rng, dtype=dtype), labels, keeps, seed))
    return jobs


def plainly(job: Job, keep: torch.Tensor, recipe: Recipe) -> nn.Sequential:
    """The usual way: one module, autograd, torch's Adam, the kept samples alone."""
    widths = [job.inputs.shape[1], *recipe.hidden, recipe.outputs]
    last = len(widths) - 2
    biased = [recipe.head_bias or layer < last for layer in range(last + 1)]
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        for layer, start in enumerate(initial(widths, biased, job.seed)):
            linear = nn.Linear(widths[layer], widths[layer + 1], bias=biased[layer], dtype=job.inputs.dtype)
            linear.weight.data = start[:, : widths[layer]].to(job.inputs.dtype).clone()
            if biased[layer]:
                linear.bias.data = start[:, -1].to(job.inputs.dtype).clone()
            layers += [linear, nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    x, y = job.inputs[keep], job.labels[keep]
    for _ in range(recipe.steps):
        optimiser.zero_grad()
        logits = net(x)
        if recipe.outputs == 1:
            nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y.to(logits.dtype)).backward()
        else:
            nn.functional.cross_entropy(logits, y).backward()
        optimiser.step()
    return net


def logits(stack: Stack, inputs: torch.Tensor) -> torch.Tensor:
    return stack.logits(stack.features(inputs))[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", RECIPES)
def test_it_is_adam_on_the_kept_samples(name: str, dtype: torch.dtype, tolerance: float) -> None:
    recipe = RECIPES[name]
    jobs = jobs_of(recipe, dtype)
    stacks = [stack for batch in train(jobs, recipe) for stack in batch]
    wanted = [(job, keep) for job in jobs for keep in job.keeps]
    assert len(stacks) == len(wanted)
    for (job, keep), stack in zip(wanted, stacks, strict=True):
        expected = plainly(job, keep, recipe)(job.inputs)
        torch.testing.assert_close(logits(stack, job.inputs), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["digits", "moons", "blobs", "moons[width=2,head=sigmoid]"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_does_not_depend_on_its_company(name: str, threads: int) -> None:
    """To the bit: alone, among few, among many, among another seed's, with one CPU thread or two."""
    task = harness.task(name, steps=150)
    split, _ = task.load(3)
    other, _ = task.load(4)
    rng = np.random.default_rng(0)
    keeps = [rng.random(len(split.train)) < 0.9 for _ in range(70 if "digits" not in name else 12)]
    torch.set_num_threads(1)
    alone = task.train(split, keeps[2], 1)
    torch.set_num_threads(threads)
    for company in (keeps[:3], keeps):
        together = [model for batch in task.train_all([(split, company, 1)]) for model in batch]
        for ours, theirs in zip(alone.weights, together[2].weights, strict=True):
            assert torch.equal(ours, theirs)
    mixed = [model for batch in task.train_all([(other, keeps[:4], 8), (split, keeps[:5], 1)]) for model in batch]
    for ours, theirs in zip(alone.weights, mixed[6].weights, strict=True):
        assert torch.equal(ours, theirs)


def test_batches_are_bounded_by_memory_and_of_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["softmax"]
    jobs = [*jobs_of(recipe, models=5), *jobs_of(recipe, n=20, models=1)]
    whole = [stack for batch in train(jobs, recipe) for stack in batch]
    one = 8 * _mlp_training._numbers(jobs[0].inputs, recipe)
    monkeypatch.setattr(_mlp_training, "BATCH_BYTES", 4 * one)
    batches = list(train(jobs, recipe))
    assert [len(batch) for batch in batches] == [4, 4, 2, 2]
    for a, b in zip(whole, (stack for batch in batches for stack in batch), strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a.weights, b.weights, strict=True))


def test_initial_weights_are_torch_linears() -> None:
    first, second = initial([4, 1000, 2], [True, True], 0)
    assert first.shape == (1000, 5)
    assert second.shape == (2, 1001)
    assert 0.49 < first.abs().max() <= 0.5
    assert 0.031 < second.abs().max() <= 1000**-0.5
