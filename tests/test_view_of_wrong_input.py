"""Wrong input to `view_of` gets one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import harness
from harness.errors import RequestError, Unsupported
from tests.test_view_of import C, D, N, X, Y, network


class Other(IterableDataset[tuple[Tensor, Tensor]]):
    """Other samples in every pass."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        return iter([(X[k], (Y[k] + self.passes) % C) for k in range(N)])


class Own(nn.Module):
    """A batch-normalised layer without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(D, track_running_stats=False), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(x))
        return logits


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "shuffled": (
        lambda: harness.view_of(network(), DataLoader(TensorDataset(X, Y), shuffle=True)),
        "give shuffle=False",
    ),
    "drawn": (
        lambda: harness.view_of(
            network(), DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler(torch.ones(N), N))
        ),
        "in an order of its own .WeightedRandomSampler.",
    ),
    "batches drawn": (
        lambda: harness.view_of(
            network(), DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(RandomSampler(X), 16, False))
        ),
        "in an order of its own .RandomSampler.",
    ),
    "no module": (lambda: harness.view_of(lambda x: x, [(X, Y)]), "must be a torch module with parameters"),  # type: ignore[arg-type]
    "other samples": (lambda: harness.view_of(network(), Other(), layers="0").probs, "other samples in a second pass"),
    "take": (lambda: harness.view_of(network(), [(X, Y)], take=lambda _: 1 / 0), "take= fails on a batch"),  # type: ignore[arg-type, return-value]
    "layer number": (lambda: harness.view_of(network(), [(X, Y)], layers=2), "must be a name"),  # type: ignore[arg-type]
    "dropped": (
        lambda: harness.view_of(network(), DataLoader(TensorDataset(X, Y), batch_size=16, drop_last=True)),
        "give drop_last=False",
    ),
    "once": (lambda: harness.view_of(network(), iter([(X, Y)])), "which can be read again"),
    "no targets": (lambda: harness.view_of(network(), [X]), "without targets; give take="),
    "no names": (lambda: harness.view_of(network(), [{"input": X}]), "none of labels, label, targets"),
    "no label": (lambda: harness.view_of(network(), [(X, torch.where(Y > 1, -100, Y))]), "target of sample 2 is -100"),
    "empty": (lambda: harness.view_of(network(), []), "has no batch"),
    "does not run": (lambda: harness.view_of(network(), [(X[:, :2], Y)]), "cannot run on a batch"),
    "layers": (lambda: harness.view_of(network(), [(X, Y)], layers="haed").gradients, "names no parameter"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_sentence(case: str) -> None:
    act, told = WRONG[case]
    with pytest.raises(RequestError, match=told):
        act()


def test_a_layer_that_mixes_samples_is_refused() -> None:
    with torch.random.fork_rng():
        model = Own()
    with pytest.raises(Unsupported, match="depends on the samples beside it"):
        harness.view_of(model, [(X, Y)], layers="*").gradients  # noqa: B018
