"""Text models: per-sample gradients of LoRA adapters against one backward pass per sample, and pairwise DataInf.

The floor is the ordinary backward pass of the same samples, in the same batches sorted by length, which gives their
gradients' sum alone. Lengths are those of GLUE's sentences, 5 to 60 tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

pytest.importorskip("transformers", reason="the extra nlp is not installed")
pytest.importorskip("peft", reason="the extra nlp is not installed")

import transformers

import harness
from tasks._adapters import Adapters
from tasks._encoders import Encoder
from tasks._text_training import GRADIENT_TOKENS, Tokens, adapter_gradients, by_size
from tests.benchmarks import usual
from tests.benchmarks.conftest import Versus

SHAPES = {
    "2 layers of 64": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "6 layers of 384": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
}


class Words:
    """As much of a tokenizer as an encoder asks for."""

    model_max_length = 128


def sample(shape: dict[str, int], n: int) -> tuple[Tokens, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config: Any = transformers.BertConfig(vocab_size=1000, max_position_embeddings=128, **shape)
        made = Encoder(Words(), transformers.BertForSequenceClassification(config), Adapters(4, 4.0, 0.05))
    made.reset(0)
    with torch.no_grad():
        for values in made.trainable():
            values.add_(0.02 * torch.randn(values.shape, generator=generator))
    made.model.eval()
    lengths = torch.randint(5, 61, (n,), generator=generator)
    mask = (torch.arange(60) < lengths.unsqueeze(1)).long()
    ids = torch.randint(4, 1000, (n, 60), generator=generator) * mask
    return Tokens(made, {"input_ids": ids, "attention_mask": mask}, lengths), torch.arange(n) % 2


@pytest.mark.parametrize("shape", SHAPES)
def test_against_one_backward_a_sample(versus: Versus, shape: str) -> None:
    n = 512 if versus.full else 8
    tokens, labels = sample(SHAPES[shape], n)
    made = tokens.adapted

    def backward(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = cross_entropy(made.model(**tokens.batch(rows)).logits, labels[rows], reduction="sum")
        return torch.autograd.grad(loss, [made._trained[name] for name in made.adapters])

    def floor() -> None:
        order = tokens.lengths.argsort(stable=True)
        for part in by_size(tokens.lengths[order], GRADIENT_TOKENS["cpu"]):
            backward(order[part])

    found = versus(
        f"LoRA gradients a sample, {shape}, n={n:,}",
        lambda: adapter_gradients(tokens, labels),
        lambda: [backward(torch.tensor([i])) for i in range(n)],
        floor,
        rounds=3,
    )
    for i in range(8):
        for values, expected in zip(found.values(), backward(torch.tensor([i])), strict=True):
            torch.testing.assert_close(values[i], expected, rtol=1e-4, atol=1e-5 * float(values.abs().max()))


def test_pairwise_datainf(versus: Versus) -> None:
    """A tiny language model's adapters: queries and values of three layers, rank 8."""
    n, tests, layers = (900, 100, 12) if versus.full else (20, 3, 2)
    generator = torch.Generator().manual_seed(1)
    blocks = {f"layer {i}": torch.randn(n, 8, 96, generator=generator) for i in range(layers)}
    asked = {name: torch.randn(tests, 8, 96, generator=generator) for name in blocks}
    view = harness.View.from_blocks(blocks, asked)
    gradients = {i: {name: values[i] for name, values in blocks.items()} for i in range(n)}

    def one_by_one() -> list[np.ndarray]:
        return [usual.datainf(gradients, {name: values[j] for name, values in asked.items()}) for j in range(tests)]

    found = versus(
        f"pairwise DataInf, {n} × {tests} prompts, {layers} blocks of 768",
        lambda: harness.method("datainf").attribute(view),
        one_by_one,
        rounds=3,
    )
    few = 3
    expected = [usual.datainf(gradients, {name: values[j] for name, values in asked.items()}) for j in range(few)]
    np.testing.assert_allclose(found[:few], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_exact_influence_of_few_samples(versus: Versus) -> None:
    """One adapter of a 135M language model: the parameters' matrix is 170 MB, the samples' eigenvectors 7."""
    n, tests, p = (200, 50, 8 * 576) if versus.full else (10, 3, 64)
    generator = torch.Generator().manual_seed(2)
    g, asked = (torch.randn(rows, p, generator=generator) for rows in (n, tests))
    view = harness.View.from_blocks({"a": g}, {"a": asked})

    def parameters_matrix() -> torch.Tensor:
        wide, damping = g.double(), float(g.square().mean()) / 10
        matrix = wide.T @ wide / n + damping * torch.eye(p, dtype=torch.float64)
        solved = torch.cholesky_solve(asked.double().T, torch.linalg.cholesky(matrix))
        return -(solved.T @ wide.T)

    found = versus(
        f"exact influence, {n} × {tests} prompts, one block of {p:,}",
        lambda: harness.method("exact_hessian").attribute(view),
        parameters_matrix,
        rounds=3,
    )
    assert view.health["a"]["solver"] == "eigenvectors"
    expected = parameters_matrix().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
