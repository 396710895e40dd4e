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
from harness.gradients.autograd import Activations

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
        (drawn(5, D), torch.tensor(3), "single value"),
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


class Sorted(nn.Module):
    """Sorts samples by length inside, and gives them back in order."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner, self.head = nn.Embedding(20, D, padding_idx=0), nn.Linear(D, D), nn.Linear(D, C)

    def forward(self, ids: Tensor) -> Tensor:
        order = torch.argsort((ids > 0).sum(1), descending=True, stable=True)
        hidden = torch.tanh(self.inner(self.words(ids[order]).sum(1)))
        return self.head(hidden[torch.argsort(order)])


class OwnLoss(nn.Module):
    """A language model that gives its mean loss, as Hugging Face's do with ``labels=``."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, D), nn.Linear(D, 20)

    def forward(self, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.words(ids))
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())}


class WithPrototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.prototypes = nn.Linear(D, 5), nn.Parameter(drawn(10, 5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), self.prototypes


class Forces(nn.Module):
    """Gives a gradient in its input, so that its layers act through gradients alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(D, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.b(torch.tanh(self.a(x))).sum(), x, create_graph=True)[0]


class Scaled(nn.Module):
    """A layer whose gradients are a millionth of the others', and a hook that doubles its output."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.head, self.temperature = nn.Linear(D, D), nn.Linear(D, C), nn.Parameter(torch.tensor(1.5))
        self.empty = nn.Parameter(torch.empty(0))
        self.small.register_forward_hook(lambda module, given, output: 2 * output)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + 1e-6 * self.small(x)) * self.temperature


class InPlaceOnInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, C)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x[:, 0] *= 2
        hidden = self.norm(x)
        self.last = hidden.detach()
        return self.head(hidden)


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(3, D), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(torch.tanh(self.a(x.reshape(len(x), 2, 3))).mean(1)).float()


class OneAtATime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(D, C), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 1
        return self.yes(x) if x[:, 0] > 0 else self.no(x)


class UsesFunc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.func.vmap(torch.func.grad(lambda row: (row**2).sum()))(x))


def lengths() -> Tensor:
    """Token ids of full length where samples are looked at first, and of mixed length elsewhere."""
    ids = tokens(600, 8, 20)
    short = torch.arange(600) % 7 == 3
    short[torch.linspace(0, 599, 5).long()] = False
    ids[short, 4:] = 0
    return ids


def balanced(output: Tensor, targets: Tensor) -> Tensor:
    """Class weights divided by their mean over the batch."""
    weights = torch.tensor([1.0, 10.0, 1.0, 1.0])[targets]
    return F.cross_entropy(output, targets, reduction="none") * weights / weights.mean()


X, Y = drawn(600, D), torch.arange(600) % C
RARE = (lengths()[:, 7] == 0).long()
EACH = nn.CrossEntropyLoss(reduction="none")
TRAPS: dict[str, tuple[Callable[[], nn.Module], Any, Tensor, Any]] = {
    "rows sorted inside": (Sorted, lengths(), Y, EACH),
    "weights by the batch": (lambda: nn.Linear(D, C), X, RARE, balanced),
    "an output as long as a chunk": (
        WithPrototypes,
        X[:522],
        Y[:522],
        lambda o, t: ((o[0] - o[1].mean(0)) ** 2).mean(),
    ),
    "a loss as long as a chunk": (
        lambda: nn.Linear(D, C),
        X[:516],
        torch.rand(516, C, generator=torch.Generator().manual_seed(0)),
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, reduction="none").mean(0),
    ),
    "gradients in inputs": (Forces, drawn(60, D), drawn(60, D, seed=4), lambda o, t: ((o - t) ** 2).sum(1)),
    "small gradients": (Scaled, X * 30, Y, EACH),
    "autocast inside": (Autocast, X[:60], Y[:60], EACH),
    "one sample at a time": (OneAtATime, X[:60], Y[:60], EACH),
    "torch.func inside": (UsesFunc, X[:60], Y[:60], EACH),
    "targets changed in place": (lambda: nn.Linear(D, C), X[:60], Y[:60] + 1, lambda o, t: EACH(o, t.sub_(1))),
}


@pytest.mark.parametrize("name", TRAPS)
def test_traps(name: str) -> None:
    make, x, y, loss = TRAPS[name]
    model = seeded(make)
    kept = y.clone()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, x, y, loss=loss)

    rows = range(0, len(y), 7)
    parameters = dict(model.named_parameters())
    for row in rows:
        value = loss(model(x[row : row + 1].clone()), y[row : row + 1].clone()).sum()
        expected = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        for key, right in zip(parameters, expected, strict=True):
            right = torch.zeros_like(parameters[key]) if right is None else right
            size = float(right.abs().max()) if right.numel() else 0.0
            close = torch.isclose(found[key][row], right, rtol=1e-3, atol=2e-5 * size + 1e-9)
            assert bool(close.all()), f"{key} in row {row}"
    assert torch.equal(y, kept)


def test_a_models_own_mean_loss_counts_each_samples_tokens_alone() -> None:
    model, ids = seeded(OwnLoss), lengths()
    labels = torch.where(ids == 0, -100, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(
            model, {"ids": ids, "labels": labels}, Y, loss=lambda output, targets: output["loss"]
        )

    for row in range(0, 600, 11):
        one = slice(row, row + 1)
        (right,) = torch.autograd.grad(model(ids[one], labels[one])["loss"], [model.head.weight])
        torch.testing.assert_close(found["head.weight"][row], right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", ["inside", ["inside", "head"], "first", "*"])
def test_reentrant_checkpoints_hide_nothing_and_leave_gradients_alone(layers: Any) -> None:
    model, plain = (seeded(lambda r=r: Checkpointed(r)) for r in (True, False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, X[:20], Y[:20], layers=layers)

    compare(found, harness.per_sample_gradients(plain, X[:20], Y[:20]))
    assert all(p.grad is None for p in model.parameters())


def test_coarse_weights_do_not_hide_an_error() -> None:
    """A tenth too much is seen in bfloat16, and beside float8 weights that nothing is computed with."""
    model = network().bfloat16()
    model[2].register_forward_hook(lambda module, given, output: 1.1 * output)
    x, y = X[:20].bfloat16(), Y[:20]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = harness.per_sample_gradients(model, x, y, layers="2.bias")["2.bias"].float()
    right = 1.1 * (model(x).softmax(1) - F.one_hot(y, C)).float()
    np.testing.assert_allclose(found, right.detach(), atol=0.02)


def test_inputs_and_the_models_attributes_stay_as_they_were() -> None:
    model, x, y = seeded(InPlaceOnInputs), X[:60].clone(), Y[:60]
    array = x.numpy().copy()
    found = harness.per_sample_gradients(model, x, y)
    again = harness.per_sample_gradients(model, array, y)

    assert torch.equal(x, X[:60])
    np.testing.assert_array_equal(array, x)
    torch.testing.assert_close(found, again)
    (right,) = torch.autograd.grad(F.cross_entropy(model(x[:1].clone()), y[:1]), [model.norm.weight])
    torch.testing.assert_close(found["norm.weight"][0], right)
    assert model.last is None or np.isfinite(model.last.mean().item())


def test_tied_weights_go_by_any_of_their_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.decoder = nn.Embedding(9, D), nn.Linear(D, 9)
            self.decoder.weight = self.words.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.decoder(self.words(ids).mean(1))

    model, ids, y = seeded(Tied), tokens(8, 5, 9), torch.arange(8)

    by_head = harness.per_sample_gradients(model, ids, y, layers="decoder")
    by_both = harness.per_sample_gradients(model, ids, y)

    assert set(by_head) == {"decoder.weight", "decoder.bias"}
    assert set(by_both) == {"words.weight", "decoder.bias"}
    torch.testing.assert_close(by_head["decoder.weight"], by_both["words.weight"])


def test_nan_in_one_sample_is_no_reason_to_be_slow() -> None:
    model = seeded(lambda: nn.Sequential(nn.LayerNorm(D), nn.Linear(D, C)))
    x = X.clone()
    x[0] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = harness.per_sample_gradients(model, x, Y)
    assert found["1.weight"][0].isnan().any()
    assert found["1.weight"][1:].isfinite().all()


def test_what_arrays_are_taken_for() -> None:
    """Targets take the precision of the model, scalars go to every sample, rows may be tensors."""
    model = seeded(lambda: nn.Linear(D, 1))
    wanted = np.random.default_rng(0).random((60, 1))
    loss = nn.HuberLoss(reduction="none")
    expected = harness.per_sample_gradients(model, X[:60], torch.tensor(wanted).float(), loss=loss)

    rows = [row.clone().requires_grad_() for row in X[:60]]
    torch.testing.assert_close(harness.per_sample_gradients(model, rows, wanted, loss=loss), expected)
    torch.testing.assert_close(
        harness.per_sample_gradients(model, {"input": X[:60].to_sparse()}, wanted, loss=loss), expected
    )
    nothing = harness.per_sample_gradients(model, np.zeros((0, D)), np.zeros((0, 1)), loss=loss)
    assert nothing["weight"].shape == (0, 1, D)
    view = harness.View.from_blocks({"w": torch.ones(5, 3), "temperature": torch.ones(5)})
    np.testing.assert_allclose(harness.method("outlier_l1").score(view), 4)


@pytest.mark.parametrize("kind", ["frozen", "checkpoint", "biases"])
def test_chunks_count_what_is_computed_and_not_saved(kind: str) -> None:
    """What a frozen body computes, a checkpoint computes again, and a bias keeps of its layer's input counts too."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, C)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = checkpoint(layer, x, use_reentrant=False) if kind == "checkpoint" else x + layer(x)
            return self.head(x.mean(1))

    model = seeded(Body)
    model.requires_grad_(kind == "checkpoint")
    counter = Activations(model.eval())
    with counter, torch.enable_grad():
        model(drawn(1, 256, 64))
    assert counter.bytes >= 6 * 256 * 64 * 4
