"""CIFAR's sizes: every Table 5 method on 50,000 samples of 10 and 100 classes, and training against the usual loop.

On a CUDA device the same benchmarks run there (``--benchmark-enable``); their rates are in ``extra_info``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset

import harness
from reports.paper_tables import TABLES
from tasks._images import Precision, Recipe, Windows, fit
from tasks._networks import make_network
from tests.benchmarks.conftest import ROWS, Row, Versus, extra_mib
from tests.benchmarks.test_scores import head

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
SHAPES = {"CIFAR-10N": (50_000, 10, 512), "CIFAR-100N": (50_000, 100, 512)}
SLOW = {("self_lissa", "CIFAR-100N", "fair")}
"""What a method declines by itself at this size."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("protocol", ["paper", "fair"])
@pytest.mark.parametrize("name", ["gradient_tracing", *TABLES["5"].methods])
def test_scoring(benchmark: Any, name: str, shape: str, protocol: str) -> None:
    """Seconds and peak memory of scoring; the gradients of CIFAR-100N would be 10 GB."""
    full = not benchmark.disabled
    n, c, d = SHAPES[shape] if full else (60, 4, 9)
    arrays = {name: torch.from_numpy(values).to(DEVICE) for name, values in head(n, c, d).items()}
    view = harness.View.from_arrays(**arrays, seed=3)
    method = harness.method(name, protocol=protocol)
    for gradients in (view.gradients, view.reference("validation").gradients):
        gradients.norm(2)  # extracted before the memory is looked at
    benchmark.group = f"{name}, {protocol}, {shape}'s shape"
    if not full:
        assert np.isfinite(method.score(view)).all()
        return
    if (name, shape, protocol) in SLOW:
        with pytest.raises(harness.Unsupported):
            method.score(view)
        pytest.skip("declined by the method")
    if DEVICE != "cpu":
        method.score(view)  # libraries start
        torch.cuda.reset_peak_memory_stats()
    extra = benchmark.pedantic(lambda: extra_mib(lambda: method.score(view)), rounds=1)
    if DEVICE != "cpu":
        benchmark.extra_info["device_mib"] = torch.cuda.max_memory_allocated() / 2**20
    ROWS.append(Row(benchmark.group, benchmark.stats.stats.min, extra_mib=extra))


class OneByOne(Dataset):  # type: ignore[type-arg]
    """The usual way: an image at a time, cropped and flipped on its own, collated by a DataLoader."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(i)
        top, left, flip = (int(torch.randint(0, k, (1,), generator=generator)) for k in (9, 9, 2))
        image = pad(self.images[i], (4, 4, 4, 4))[:, top : top + 32, left : left + 32]
        return image.flip(2) if flip else image, self.labels[i]


RECIPE = Recipe(1, 128, 0.1, 5e-4, "step", 0.6, Windows(32, 4), augment=True, shuffle=True)


def noise(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images of CIFAR's size, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 10, (n,), generator=generator)


@pytest.mark.parametrize("name", ["small_cnn", "fast_cnn", "resnet34"])
def test_training(versus: Versus, name: str) -> None:
    """One epoch of our training against a DataLoader's; images a second are in ``extra_info``."""
    n = 64 if not versus.full else {"small_cnn": 20_000, "fast_cnn": 2_000, "resnet34": 256}[name]
    n = 50_000 if versus.full and DEVICE != "cpu" else n
    images, labels = noise(n)
    ours, theirs = (make_network(name, 10, 0).to(DEVICE) for _ in range(2))
    here = images.to(DEVICE), labels.to(DEVICE)
    optimiser = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)

    def usual() -> None:
        order = torch.Generator().manual_seed(0)
        for x, y in DataLoader(OneByOne(images, labels), 128, shuffle=True, generator=order):
            optimiser.zero_grad()
            loss = cross_entropy(theirs(x.to(DEVICE)), y.to(DEVICE))
            torch.autograd.backward(loss)
            optimiser.step()
            loss.item()

    def trained() -> None:
        fit(ours, *here, RECIPE, 0)
        if DEVICE != "cpu":
            torch.cuda.synchronize()

    versus(f"an epoch of {n:,} images, {name}, {DEVICE}", trained, usual, rounds=2)
    if versus.full:
        versus.benchmark.extra_info["images_per_second"] = n / versus.benchmark.stats.stats.min


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["small_cnn", "fast_cnn", "resnet18"])
def test_compiled_training(versus: Versus, name: str, precision: Precision) -> None:
    """One epoch of compiled training, once it is compiled, against the same training uncompiled."""
    if not versus.full:
        pytest.skip("compiling takes a minute, and tests/test_images.py has a test of it")
    n = 50_000 if DEVICE != "cpu" else {"small_cnn": 20_480, "fast_cnn": 2_048, "resnet18": 512}[name]
    images, labels = (values.to(DEVICE) for values in noise(n))

    def trained(compiled: bool) -> None:
        how = replace(RECIPE, precision=precision, compiled=compiled)
        fit(make_network(name, 10, 0).to(DEVICE), images, labels, how, 0)
        if DEVICE != "cpu":
            torch.cuda.synchronize()

    title = f"{name}, {precision}, compiled against not, {DEVICE}"
    versus(title, lambda: trained(True), lambda: trained(False), rounds=3)
