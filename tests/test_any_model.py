"""Per-sample gradients of models and losses as people have them, against one backward pass per sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import harness
from harness.errors import RequestError

N, D, C = 60, 6, 4


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(n: int, length: int, most: int, seed: int = 2) -> Tensor:
    return torch.randint(1, most, (n, length), generator=torch.Generator().manual_seed(seed))


def alone(model: nn.Module, call: Callable[[slice], Tensor]) -> dict[str, Tensor]:
    """Gradients by one ordinary backward pass per sample.

    Args:
        call: gives one sample's loss.
    """
    model.eval()
    names, parameters = zip(*((k, p) for k, p in model.named_parameters() if p.is_floating_point()), strict=True)
    was = [p.requires_grad for p in parameters]
    rows = []
    for p in parameters:
        p.requires_grad_(True)
    i = 0
    while True:
        try:
            loss = call(slice(i, i + 1))
        except StopIteration:
            break
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        dense = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in zip(found, parameters, strict=True)]
        rows.append(dense)
        i += 1
    for p, before in zip(parameters, was, strict=True):
        p.requires_grad_(before)
    return {name: torch.stack([row[k] for row in rows]) for k, name in enumerate(names)}


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 2e-5) -> None:
    assert set(found) <= set(expected)
    for name, values in found.items():
        size = float(expected[name].abs().max())
        apart = float((values - expected[name]).abs().max())
        assert apart <= tolerance * size + 1e-7, f"{name}: {apart:.2g} of {size:.2g}"


def check(model: nn.Module, x: Any, y: Tensor, loss: Any, **options: Any) -> dict[str, Tensor]:
    """Compare the gradients of a model of one input with single backward passes."""
    n = len(y)

    def one(rows: slice) -> Tensor:
        if rows.start == n:
            raise StopIteration
        return loss(model(x[rows]), y[rows]).sum()

    found = harness.per_sample_gradients(model, x, y, loss=loss, **options)
    compare(found, alone(model, one))
    return found


def linear() -> nn.Module:
    return seeded(lambda: nn.Linear(D, C))


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, C)))


def fitted() -> tuple[nn.Module, Tensor, Tensor]:
    """A confident model that is wrong on a few samples, none of them first, last or evenly spaced."""
    model = linear()
    model.weight.data *= 20
    x = drawn(N, D)
    y = model(x).argmax(1)
    wrong = torch.tensor([7, 23, 38, 51])
    y[wrong] = (y[wrong] + 1) % C
    return model, x, y


def clipped(output: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that stops mattering above a bound or below one."""
    return F.cross_entropy(output, targets, reduction="none").clamp(0.5, 300)


LOSSES = {
    "hinge": nn.MultiMarginLoss(reduction="none"),
    "hinge, mean": nn.MultiMarginLoss(),
    "hinge, sum": nn.MultiMarginLoss(reduction="sum"),
    "cross-entropy, mean": nn.CrossEntropyLoss(),
    "cross-entropy, sum": nn.CrossEntropyLoss(reduction="sum"),
    "label smoothing, mean": nn.CrossEntropyLoss(label_smoothing=0.1),
    "class weights, mean": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "clipped": clipped,
    "divided by the size of the batch": lambda o, t: F.cross_entropy(o, t, reduction="none") / len(t),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_whose_gradients_are_mostly_zero_or_reduced(name: str) -> None:
    model, x, y = fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(model, x, y, LOSSES[name])


def test_rows_to_be_ignored_have_no_gradient() -> None:
    model, x, y = fitted()
    y[[0, 14, 29, 44, 59, 7]] = -100

    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")):
        found = harness.per_sample_gradients(model, x, y, loss=loss)

        ignored = y == -100
        assert not found["weight"][ignored].any()
        expected = harness.per_sample_gradients(model, x[~ignored], y[~ignored])
        torch.testing.assert_close(found["weight"][~ignored], expected["weight"])


class Twice(nn.Module):
    """A weight that is used a second time, for all samples or for some."""

    def __init__(self, some: bool) -> None:
        super().__init__()
        self.some, self.a, self.head = some, nn.Linear(D, D, bias=False), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        again = torch.tanh(F.linear(self.a(x), self.a.weight))
        return self.head(x + (again * (x[:, :1] > 1.5) if self.some else again))


@pytest.mark.parametrize("some", [False, True])
def test_weights_that_are_used_twice(some: bool) -> None:
    model = seeded(lambda: Twice(some))
    x = drawn(N, D)
    x[torch.linspace(0, N - 1, 5).long(), 0] = 0  # none of the samples that are looked at first

    check(model, x, torch.arange(N) % C, nn.CrossEntropyLoss(reduction="none"))


class OnlySome(nn.Module):
    """A layer through which one sample in thirty goes, by its rows or by a mask."""

    def __init__(self, routed: bool) -> None:
        super().__init__()
        self.routed, self.rare, self.head = routed, nn.Linear(D, D), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        mine = x[:, 0] > 1.9
        if not self.routed:
            return self.head(x + self.rare(x) * mine.unsqueeze(1))
        where = torch.nonzero(mine)[:, 0]
        return self.head(x.index_add(0, where, self.rare(x[where])))


@pytest.mark.parametrize("routed", [False, True])
def test_layers_that_few_samples_use(routed: bool) -> None:
    model, x = seeded(lambda: OnlySome(routed)), drawn(N, D)
    assert 0 < int((x[:, 0] > 1.9).sum()) < 5

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(model, x, torch.arange(N) % C, nn.CrossEntropyLoss(reduction="none"))


def penalties(model: nn.Module) -> dict[str, Any]:
    weight = dict(model.named_parameters())["0.weight"]
    each = nn.CrossEntropyLoss(reduction="none")
    return {
        "of all weights": lambda o, t: each(o, t) + 1e-5 * sum(p.square().sum() for p in model.parameters()),
        "of a weight that the loss holds": lambda o, t: each(o, t) + 1e-5 * weight.square().sum(),
        "of the mean": lambda o, t: each(o, t).mean() + 1e-5 * weight.abs().sum(),
        "times the loss": lambda o, t: each(o, t) * weight.square().mean(),
    }


@pytest.mark.parametrize("name", penalties(network()))
def test_a_loss_that_depends_on_the_weights(name: str) -> None:
    model = network()
    x = drawn(N, D) / 1000  # so small that the penalty's gradient is a part of the whole that counts
    check(model, x, torch.arange(N) % C, penalties(model)[name])


def test_a_penalty_in_a_model_that_needs_torch_func() -> None:
    model = seeded(lambda: nn.Sequential(nn.LayerNorm(D), nn.Linear(D, C)))
    held = model[0].weight
    for loss in (
        lambda o, t: F.cross_entropy(o, t, reduction="none") + 1e-5 * held.square().sum(),
        lambda o, t: F.cross_entropy(o, t, reduction="none") + 1e-5 * model[0].weight.square().sum(),
    ):
        with_penalty = check(model, drawn(N, D), torch.arange(N) % C, loss)
        without = harness.per_sample_gradients(model, drawn(N, D), torch.arange(N) % C)
        np.testing.assert_allclose(with_penalty["0.weight"] - without["0.weight"], 2e-5, atol=1e-6)


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


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.first = reentrant, nn.Linear(D, D)
        self.inside, self.head = nn.Sequential(nn.Linear(D, D), nn.Tanh()), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inside, self.first(x), use_reentrant=self.reentrant))


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


def test_inputs_as_arrays_lists_and_mappings() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, C)

        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, flip: bool = False) -> Tensor:
            x = -x if flip else x
            return self.head(x * scale if mask is None else x * mask * scale)

    model, x, y = seeded(Two), drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(model, x, y)
    same: dict[str, Any] = {
        "NumPy": x.numpy(),
        "float64 NumPy, big-endian": x.numpy().astype(">f8"),
        "a list of rows": x.tolist(),
        "a tuple of arguments": (x, None, 1.0, False),
        "a mapping": {"x": x, "mask": None, "scale": 1, "flip": False},
        "a mask for all samples": {"x": x, "mask": torch.ones(1, D)},
        "NumPy by name": {"x": x.numpy(), "mask": np.ones((N, D))},
    }

    for name, inputs in same.items():
        for targets in (y, y.numpy().astype(np.int32), y.tolist()):
            found = harness.per_sample_gradients(model, inputs, targets)
            torch.testing.assert_close(found["head.weight"], expected["head.weight"], msg=name)
    flipped = harness.per_sample_gradients(model, {"x": x, "flip": True}, y)
    torch.testing.assert_close(flipped, harness.per_sample_gradients(model, -x, y))


class Wrapped(nn.Module):
    """A model whose output comes in some form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.head, self.form = nn.Linear(D, C), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.head(x))


def test_outputs_as_tuples_mappings_and_objects() -> None:
    from transformers.modeling_outputs import SequenceClassifierOutput

    x, y = drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(seeded(lambda: Wrapped(lambda o: o)), x, y)
    forms: dict[str, Callable[[Tensor], Any]] = {
        "tuple": lambda o: (o, None),
        "list": lambda o: [o],
        "mapping": lambda o: {"hidden": o * 2, "logits": o},
        "one in a mapping": lambda o: {"scores": o},
        "Hugging Face": lambda o: SequenceClassifierOutput(logits=o),
    }
    for name, form in forms.items():
        model = seeded(lambda form=form: Wrapped(form))
        torch.testing.assert_close(harness.per_sample_gradients(model, x, y), expected, msg=name)

    def mean(output: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets)

    torch.testing.assert_close(harness.per_sample_gradients(model, x, y, loss=mean), expected)


def test_wrapped_models_and_inference_mode() -> None:
    model, x, y = network(), drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(model, x, y)

    wrapped = harness.per_sample_gradients(nn.DataParallel(model), x, y, layers="module.0")
    with torch.inference_mode():
        inside = harness.per_sample_gradients(model, x + 0, y + 0)

    assert list(wrapped) == ["module.0.weight", "module.0.bias"]
    torch.testing.assert_close(wrapped["module.0.weight"], expected["0.weight"])
    torch.testing.assert_close(inside, expected)


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        (drawn(5, D), torch.zeros(3, dtype=torch.long), "targets has 3 rows, inputs has 5"),
        (drawn(3, D), torch.zeros(5, dtype=torch.long), "targets has 5 rows, inputs has 3"),
        (drawn(1, D), torch.zeros(5, dtype=torch.long), "targets has 5 rows, inputs has 1"),
        ({"x": drawn(5, D), "mask": drawn(4, D)}, torch.zeros(5, dtype=torch.long), r"inputs\['mask'\] has 4"),
        ({"scale": 1.0}, torch.zeros(5, dtype=torch.long), "they hold no tensor"),
        (drawn(5, D), torch.tensor(3), "single number"),
        (drawn(5, D), ["cat"] * 5, "targets must be an array of numbers"),
        (drawn(5, D + 1), torch.zeros(5, dtype=torch.long), "cannot run on one sample: RuntimeError"),
        (drawn(5, D), torch.zeros(5, 3, 2), "cross-entropy needs logits"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(inputs: Any, targets: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        harness.per_sample_gradients(linear(), inputs, targets)


def test_models_that_have_no_gradient_are_refused_in_a_sentence() -> None:
    x, y = drawn(5, D), torch.zeros(5, dtype=torch.long)
    with torch.inference_mode():
        made_inside = linear()
    with pytest.raises(RequestError, match="inference_mode"):
        harness.per_sample_gradients(made_inside, x, y)
    with pytest.raises(RequestError, match="no parameter"):
        harness.per_sample_gradients(nn.Flatten(), x, y)
    with pytest.raises(RequestError, match="without logits"):
        harness.per_sample_gradients(seeded(lambda: Wrapped(lambda o: {"a": o, "b": o})), x, y)
    with pytest.raises(RequestError, match="must give a tensor of losses"):
        harness.per_sample_gradients(linear(), x, y, loss=lambda o, t: 1.0)


def small(kind: str) -> tuple[nn.Module, dict[str, Any]]:
    """A small transformer with random weights, and inputs of eight samples."""
    import transformers as hf

    size: dict[str, Any] = {"num_labels": C}
    wide = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
    made: dict[str, Callable[[], Any]] = {
        "GPT-2": lambda: hf.GPT2ForSequenceClassification(
            hf.GPT2Config(vocab_size=30, n_embd=16, n_head=2, n_layer=2, n_positions=12, pad_token_id=0, **size)
        ),
        "BERT": lambda: hf.BertForSequenceClassification(hf.BertConfig(vocab_size=30, **wide, **size)),
        "RoBERTa": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(vocab_size=30, **wide, **size)),
        "DistilBERT": lambda: hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(vocab_size=30, dim=16, n_heads=2, n_layers=2, hidden_dim=24, **size)
        ),
        "Llama": lambda: hf.LlamaForSequenceClassification(
            hf.LlamaConfig(vocab_size=30, num_key_value_heads=1, pad_token_id=0, **wide, **size)
        ),
        "T5": lambda: hf.T5ForSequenceClassification(
            hf.T5Config(
                vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1,
                decoder_start_token_id=0, **size
            )
        ),
        "Mixtral": lambda: hf.MixtralForSequenceClassification(
            hf.MixtralConfig(vocab_size=30, num_key_value_heads=1, num_local_experts=2, pad_token_id=0, **wide, **size)
        ),
    }  # fmt: skip
    model = seeded(made[kind])
    ids = tokens(8, 6, 30) if kind != "T5" else torch.cat([tokens(8, 5, 28) + 1, torch.ones(8, 1, dtype=torch.long)], 1)
    mask = torch.ones_like(ids)
    if kind in ("BERT", "RoBERTa", "DistilBERT"):
        mask[::2, 4:] = 0
    return model, {"input_ids": ids, "attention_mask": mask}


KINDS = ("GPT-2", "BERT", "RoBERTa", "DistilBERT", "Llama", "T5", "Mixtral")


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_with_all_layers(kind: str) -> None:
    model, inputs = small(kind)
    y = torch.arange(8) % C

    def one(rows: slice) -> Tensor:
        if rows.start == 8:
            raise StopIteration
        output = model(**{name: values[rows] for name, values in inputs.items()})
        return F.cross_entropy(output.logits, y[rows])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, {**inputs, "return_dict": True, "labels": None}, y)

    expected = alone(model, one)
    assert set(found) == set(expected)
    compare(found, expected, 1e-4)


@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "prompt tuning"])
def test_adapters(kind: str) -> None:
    peft = pytest.importorskip("peft")
    model, inputs = small("BERT")
    config = (
        peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
        if kind == "prompt tuning"
        else peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], use_dora=kind == "DoRA")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = seeded(lambda: peft.get_peft_model(model, config))
        y = torch.arange(8) % C
        pattern = "*prompt_encoder*" if kind == "prompt tuning" else "*lora_*"
        found = harness.per_sample_gradients(adapted, inputs, y, layers=pattern)

        def one(rows: slice) -> Tensor:
            if rows.start == 8:
                raise StopIteration
            output = adapted(**{name: values[rows] for name, values in inputs.items()})
            return F.cross_entropy(output.logits, y[rows])

        compare(found, alone(adapted, one), 1e-4)
    assert any(values.any() for values in found.values())
