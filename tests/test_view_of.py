"""A view of any trained torch module and a DataLoader: the same numbers as by hand, in every form a user has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    TensorDataset,
)

import harness
from harness.errors import RequestError, Unsupported

N, D, C = 50, 6, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(dropout: float = 0.5) -> nn.Sequential:
    """A trained-looking network in train mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, C))
        layers(drawn(40, D, seed=5))
    return layers


X, Y = drawn(N, D), torch.arange(N) % C
VX, VY = drawn(20, D, seed=1), torch.arange(20) % C


def by_hand(model: nn.Sequential) -> harness.View:
    """The view of `network` from arrays."""
    model = model.eval()
    with torch.no_grad():
        h, vh = model[:-1](X), model[:-1](VX)
        p, vp = model(X).softmax(1), model(VX).softmax(1)
    return harness.View.from_arrays(h, p, Y, vh, vp, VY, bias=True)


class Dictionaries(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __getitem__(self, k: int) -> dict[str, Tensor]:
        return {"input": X[k], "labels": Y[k]}

    def __len__(self) -> int:
        return N


FORMS: dict[str, Callable[[], Any]] = {
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=16),
    "dataset": lambda: TensorDataset(X, Y),
    "batches": lambda: [(X[:30], Y[:30]), (X[30:], Y[30:])],
    "arrays": lambda: [(X.numpy(), Y.numpy())],
    "dictionaries": lambda: DataLoader(Dictionaries(), batch_size=7),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_view_by_hand(form: str) -> None:
    model = network()
    modes = [module.training for module in model.modules()]
    validation = [{"input": VX, "labels": VY}] if form == "dictionaries" else [(VX, VY)]

    view = harness.view_of(model, FORMS[form](), validation=validation)

    expected = by_hand(network())
    np.testing.assert_allclose(view.probs, expected.probs, atol=1e-6)
    torch.testing.assert_close(view.features, expected.features)
    for name in ("outlier_l2", "outlier_l1", "self_confidence", "datainf[damping=0.01]", "exact_hessian", "knn_labels"):
        method = harness.method(name)
        np.testing.assert_allclose(method.score(view), method.score(expected), rtol=2e-4, atol=1e-6, err_msg=name)
    assert [module.training for module in model.modules()] == modes


def test_gradients_of_other_layers() -> None:
    """All layers by glob: the last layer as products, the others as the gradients of single samples."""
    model = network()
    view = harness.view_of(model, DataLoader(TensorDataset(X, Y), batch_size=16), layers="*")

    expected = harness.per_sample_gradients(network(), X, Y)

    norms = sum(values.reshape(N, -1).double().square().sum(1) for values in expected.values())
    np.testing.assert_allclose(view.gradients.norm(2), norms.sqrt(), rtol=1e-4)  # type: ignore[union-attr]
    last = expected["4.weight"].reshape(N, -1).double().square().sum(1) + expected["4.bias"].double().square().sum(1)
    np.testing.assert_allclose(view.gradients_of("last").norm(2), last.sqrt(), rtol=1e-4)
    assert set(view.gradients_of("0.*")) == {"0.weight", "0.bias"}


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)
    view = harness.view_of(model, TensorDataset(X, Y), layers="*")
    assert set(view.gradients) == {"1.weight", "1.bias", "head"}
    sequence = nn.Sequential(nn.Flatten(), network()).requires_grad_(False)
    with pytest.raises(RequestError, match="frozen parameters only"):
        harness.view_of(sequence, TensorDataset(X, Y.float()), layers="1.0", loss=squares).gradients  # noqa: B018


def squares(output: Tensor, targets: Tensor) -> Tensor:
    return (output[:, 0] - targets).square()


def test_another_loss_has_gradients_and_no_last_layer() -> None:
    targets = drawn(N, seed=3)
    view = harness.view_of(network(), TensorDataset(X, targets), loss=squares, layers=["0", "4"])
    expected = harness.per_sample_gradients(network(), X, targets, layers=["0", "4"], loss=squares)
    norms = sum(values.reshape(N, -1).double().square().sum(1) for values in expected.values())
    np.testing.assert_allclose(harness.method("outlier_l2").score(view), norms.sqrt(), rtol=1e-4)  # type: ignore[union-attr]
    with pytest.raises(Unsupported, match="name the layers whose gradients are wanted by layers="):
        harness.view_of(network(), TensorDataset(X, targets), loss=squares).gradients  # noqa: B018


class Tied(nn.Module):
    """Tokens in, the next token's logits out; the last layer's weight is the embedding's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(C, 4)
        self.head = nn.Linear(4, C, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(tokens).mean(1))
        return logits


def test_a_tied_last_layer_is_not_taken_for_products() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tied()
    tokens = torch.randint(0, C, (N, 5), generator=torch.Generator().manual_seed(0))
    view = harness.view_of(model, TensorDataset(tokens, Y), layers="*")
    expected = harness.per_sample_gradients(model, tokens, Y)["embedding.weight"]
    np.testing.assert_allclose(view.gradients.norm(2), expected.reshape(N, -1).norm(dim=1), rtol=1e-4)
    assert view.probs.shape == (N, C)
    with pytest.raises(Unsupported, match="no linear layer by itself gives"):
        harness.view_of(model, TensorDataset(tokens, Y)).gradients  # noqa: B018


def test_half_precision() -> None:
    model = network().bfloat16()
    view = harness.view_of(model, TensorDataset(X.bfloat16(), Y))
    assert view.features.dtype == torch.float32
    expected = by_hand(network())
    np.testing.assert_allclose(view.probs, expected.probs, atol=0.05)
    assert np.corrcoef(view.gradients.norm(2), expected.gradients.norm(2))[0, 1] > 0.99


def test_one_output() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, 1))
    loss = nn.BCEWithLogitsLoss(reduction="none")
    labels = (Y > 0).long()
    view = harness.view_of(
        model, TensorDataset(X, labels), layers="*", loss=lambda o, t: loss(o[:, 0], t.float()), outputs=lambda o: o
    )
    expected = harness.per_sample_gradients(model, X, labels, loss=lambda o, t: loss(o[:, 0], t.float()))
    norms = sum(values.reshape(N, -1).double().square().sum(1) for values in expected.values())
    np.testing.assert_allclose(view.gradients.norm(2), norms.sqrt(), rtol=1e-4)  # type: ignore[union-attr]
    assert view.probs.shape == (N, 2)


def bert() -> Any:
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            num_labels=C,
        )
        return transformers.BertForSequenceClassification(config)


def texts() -> list[dict[str, Tensor]]:
    """Batches whose padding differs, as a collator makes them."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size, longest in ((20, 9), (20, 5), (10, 12)):
        lengths = torch.randint(2, longest + 1, (size,), generator=generator)
        mask = (torch.arange(longest) < lengths[:, None]).long()
        tokens = torch.randint(1, 30, (size, longest), generator=generator) * mask
        labels = torch.randint(0, C, (size,), generator=generator)
        batches.append({"input_ids": tokens, "attention_mask": mask, "labels": labels})
    return batches


def test_a_hugging_face_model_with_attention_masks() -> None:
    model = bert()
    view = harness.view_of(model, texts(), layers="bert.encoder.layer.1.output.dense")

    alone = [
        {
            name: values[k : k + 1, : int(batch["attention_mask"][k].sum())]
            for name, values in batch.items()
            if name != "labels"
        }
        for batch in texts()
        for k in range(len(batch["labels"]))
    ]
    labels = torch.cat([batch["labels"] for batch in texts()])
    with torch.no_grad():
        expected = torch.cat([model.eval()(**sample).logits.softmax(1) for sample in alone])
    np.testing.assert_allclose(view.probs, expected, atol=1e-5)
    assert (view.labels == labels.numpy()).all()
    name = "bert.encoder.layer.1.output.dense.weight"
    for k in (0, 25, 49):
        own = harness.per_sample_gradients(model, alone[k], labels[k : k + 1], layers=[name])[name]
        np.testing.assert_allclose(view.gradients_of(name).norm(2)[k], own.norm(), rtol=1e-3)
    assert harness.method("normalized_margin").score(view).shape == (50,)


def test_tokens_as_targets() -> None:
    """A model of sequences: no class probabilities; ignored tokens have no gradient."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, C)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            logits: Tensor = self.head(self.embedding(input_ids) * attention_mask.unsqueeze(2))
            return logits.transpose(1, 2)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tagger()
    batches = []
    for batch in texts():
        mask = batch["attention_mask"].bool()
        batches.append({**batch, "labels": torch.where(mask, batch["input_ids"] % C, -100)})
    loss = nn.CrossEntropyLoss()
    view = harness.view_of(model, batches, layers="head", loss=loss)
    expected = [
        harness.per_sample_gradients(
            model, {k: v for k, v in batch.items() if k != "labels"}, batch["labels"], layers="head", loss=loss
        )["head.weight"]
        for batch in batches
    ]
    norms = torch.cat([values.reshape(len(values), -1).norm(dim=1) for values in expected])
    np.testing.assert_allclose(view.gradients_of("head.weight").norm(2), norms, rtol=1e-4)
    with pytest.raises(Unsupported):
        view.probs  # noqa: B018


def test_everything_else_that_makes_sense() -> None:
    model = network()
    view = harness.view_of(model, DataLoader(TensorDataset(X, Y), batch_size=16))
    torch.testing.assert_close(view.inputs, X)
    torch.testing.assert_close(view.model(X), model.eval()(X))
    assert view.neighbours(3).indices.shape == (N, 3)
    for part in ("out_of_sample_probs", "dynamics", "checkpoints", "encoder_features"):
        with pytest.raises(Unsupported):
            getattr(view, part)


def test_a_linear_probe_by_itself() -> None:
    """The model is the last layer; with one output, its loss is that of a sigmoid."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        several, one = nn.Linear(D, C), nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, 1))
    view = harness.view_of(several, [(X, Y)])
    expected = harness.per_sample_gradients(several, X, Y)
    norms = (expected["weight"].reshape(N, -1).square().sum(1) + expected["bias"].square().sum(1)).sqrt().detach()
    np.testing.assert_allclose(view.gradients.norm(2), norms, rtol=1e-4)
    labels = (Y > 0).long()
    view = harness.view_of(one, [(X, labels)], layers="0")
    loss = nn.BCEWithLogitsLoss(reduction="none")
    expected = harness.per_sample_gradients(one, X, labels, loss=lambda o, t: loss(o[:, 0], t.float()))
    norms = sum(values.reshape(N, -1).square().sum(1) for values in expected.values()).sqrt().detach()  # type: ignore[union-attr]
    np.testing.assert_allclose(view.gradients.norm(2), norms, rtol=1e-4)
    assert view.probs.shape == (N, 2)


def test_a_model_that_gives_probabilities_has_scores_without_gradients() -> None:
    model = nn.Sequential(network(), nn.Softmax(1))
    view = harness.view_of(model, [(X, Y)], outputs=lambda p: p.log())
    np.testing.assert_allclose(view.probs, by_hand(network()).probs, atol=1e-6)
    assert harness.method("self_confidence").score(view).shape == (N,)
    with pytest.raises(Unsupported, match="no linear layer by itself"):
        harness.method("outlier_l2").score(view)
