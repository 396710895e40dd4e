"""Per-sample gradients of models and losses as people have them, against one backward pass per sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from tests.any_model import C, Checkpointed, D, N, check, compare, drawn, seeded, tokens


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.reshape(len(x), 2, 3))[0][:, -1])


class Bag(nn.Module):
    """Embeddings with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, D, sparse=True), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(3, 12), nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.reshape(len(x), 2, 3)).split(4, -1)
        mask = torch.ones(2, 2, dtype=torch.bool).tril()
        return self.head(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1))


class Normalised(nn.Module):
    """Weights that are made from others: by a parametrisation, by an old hook, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(D, D))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.b = nn.utils.weight_norm(nn.Linear(D, D))
        self.head = nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x).tanh()).tanh())


ODD: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "GRU": (Recurrent, drawn(N, D)),
    "sparse embedding": (Bag, tokens(N, 4, 9)),
    "attention": (Attention, drawn(N, D)),
    "reentrant checkpoint": (lambda: Checkpointed(True), drawn(N, D)),
    "checkpoint": (lambda: Checkpointed(False), drawn(N, D)),
    "normalised weights": (Normalised, drawn(N, D)),
    "instance norm": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten(), nn.Linear(D, C)
        ),
        drawn(N, D),
    ),
    "transposed convolution": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.ConvTranspose2d(1, 2, 2), nn.Flatten(), nn.Linear(24, C)),
        drawn(N, D),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_models_beyond_the_rules(name: str) -> None:
    make, x = ODD[name]
    model = seeded(make)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "reentrant checkpoint":  # autograd.grad cannot look into it
            other = seeded(lambda: Checkpointed(False))
            y = torch.arange(N) % C
            compare(
                harness.per_sample_gradients(model, x, y),
                harness.per_sample_gradients(other, x, y),
            )
            assert all(p.grad is None for p in model.parameters())
        else:
            check(model, x, torch.arange(N) % C, nn.CrossEntropyLoss(reduction="none"))


def test_what_is_slow_is_said_once_per_reason() -> None:
    model, y = seeded(Recurrent), torch.arange(300) % C
    with pytest.warns(UserWarning, match="one sample at a time") as told:
        harness.per_sample_gradients(model, drawn(300, D), y, layers="gru")
    assert len(told) == 1
