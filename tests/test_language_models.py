"""Causal language models with adapters: families, gradients against backward passes, losses and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra nlp is not installed")
pytest.importorskip("peft", reason="the extra nlp is not installed")

import transformers

import harness
from harness.errors import RequestError
from harness.gradients.storage import allocated
from tasks import _text_training
from tasks._adapters import Adapters
from tasks._language_models import _bytes, language_model, tiny_language_model
from tasks._language_training import answers, prompt_tokens, token_losses, tokenised_prompts
from tasks._prompt_sets import Prompt, transformations, word_problems
from tasks._text_training import Recipe, adapter_gradients
from tests.glue_files import disturb, offline  # noqa: F401 - a fixture

ADAPTERS = Adapters(rank=2, alpha=8.0, dropout=0.05)
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
FAMILIES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "Llama": ("LlamaForCausalLM", SIZES, {"q_proj", "v_proj"}),
    "Mistral": ("MistralForCausalLM", {**SIZES, "num_key_value_heads": 1}, {"q_proj", "v_proj"}),
    "Qwen2": ("Qwen2ForCausalLM", {**SIZES, "num_key_value_heads": 1}, {"q_proj", "v_proj"}),
    "GPT2": ("GPT2LMHeadModel", {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 256}, {"c_attn"}),
    "GPTNeoX": ("GPTNeoXForCausalLM", SIZES, {"query_key_value"}),
}
PROMPTS = [*word_problems(1, True, 0)[:3], *transformations(1, ["Be kind."], 0)[:2], Prompt("a -> ", "b", "short")]


def write_model(folder: Path, family: str) -> Path:
    tokenizer = _bytes([f"{p.prompt}{p.answer}" for p in PROMPTS])
    head, sizes, _ = FAMILIES[family]
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, head)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: write_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def some_model(folder: Path) -> Any:
    """One with adapters that are not zero, as after some training."""
    made = language_model(str(folder), "float32", ADAPTERS, "cpu")
    disturb(made)
    return made


def alone(made: Any, tokens: Any, targets: torch.Tensor, i: int) -> dict[str, torch.Tensor]:
    """Gradients of one sample without padding by an ordinary backward pass of the library's own loss."""
    length = int(tokens.lengths[i])
    labels = targets[i : i + 1, :length]
    made.model.eval()
    given = {name: values[i : i + 1, :length] for name, values in tokens.parts.items()}
    loss = made.model(**given, labels=labels).loss
    return dict(zip(made.adapters, torch.autograd.grad(loss, made.trainable()), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["prompt", "answer", "text"])
def test_gradients_are_those_of_single_backward_passes(
    models: dict[str, Path], family: str, part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = some_model(models[family])
    tokens, targets = prompt_tokens(made, PROMPTS, 200).shown(part)
    for budget in (100_000, 150, 1):
        monkeypatch.setattr(_text_training, "GRADIENT_TOKENS", {"cpu": budget})
        found = adapter_gradients(tokens, targets, loss=token_losses)
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in found} == FAMILIES[family][2]
        for i in range(len(PROMPTS)):
            expected = alone(made, tokens, targets, i)
            for (name, values), full in zip(found.items(), made.adapters, strict=True):
                largest = float(values.abs().max())
                torch.testing.assert_close(values[i], expected[full], rtol=1e-5, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layers_gradients_are_among_all(models: dict[str, Path], family: str) -> None:
    made = some_model(models[family])
    shown = prompt_tokens(made, PROMPTS, 200).shown("prompt")
    every = adapter_gradients(*shown, loss=token_losses)
    last = adapter_gradients(*shown, made.last_layer, token_losses)
    assert len(last) == len(every) // 2
    assert all(".1." in name for name in last)
    for name, values in last.items():
        torch.testing.assert_close(values, every[name], rtol=1e-5, atol=1e-6 * float(values.abs().max()))


def test_gradients_on_disk_are_the_same(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = some_model(models["Llama"])
    shown = prompt_tokens(made, PROMPTS, 200).shown("prompt")
    found = []
    for limit in ("4", "0"):
        monkeypatch.setenv("HARNESS_GRADIENTS_GIB", limit)
        blocks = adapter_gradients(*shown, loss=token_losses)
        view = harness.View.from_blocks(blocks, {name: values[:3] for name, values in blocks.items()})
        names = ("gradient_tracing", "datainf", "lissa", "exact_hessian")
        found.append([harness.method(name).attribute(view) for name in names])
        assert view.gradients.norm(2).min() > 0
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    monkeypatch.setenv("HARNESS_GRADIENTS_GIB", "much")
    with pytest.raises(RequestError, match="HARNESS_GRADIENTS_GIB=much must be a size in GiB"):
        adapter_gradients(*shown, loss=token_losses)


def test_padding_counts_as_in_the_reference_code(models: dict[str, Path]) -> None:
    """Every text is padded by end tokens to the longest, nothing attends to them, and their losses are in the mean."""
    made = some_model(models["Llama"])
    of = prompt_tokens(made, PROMPTS, 200)
    (plain, targets), (padded, padded_targets) = (of.shown("prompt", padding) for padding in (False, True))
    end, longest = made.tokenizer.eos_token_id, int(plain.lengths.max())
    short = int(plain.lengths.argmin())
    n = int(plain.lengths[short])
    assert n < longest

    ids = padded.parts["input_ids"][short : short + 1]
    assert ids[0, n:].tolist() == [end] * (longest - n)
    assert torch.equal(padded.parts["attention_mask"], plain.parts["attention_mask"])
    mask = padded.parts["attention_mask"][short : short + 1]
    made.model.eval()
    logits = made.model(input_ids=ids, attention_mask=mask).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
    ours = token_losses(logits, padded_targets[short : short + 1])
    torch.testing.assert_close(ours[0], expected)

    batch = padded.batch(torch.tensor([short]))
    assert batch["input_ids"].shape == (1, longest)
    ours = adapter_gradients(padded, padded_targets, loss=token_losses)
    theirs = adapter_gradients(plain, targets, loss=token_losses)
    name = next(iter(ours))
    assert not torch.allclose(ours[name][short], theirs[name][short])
    most = int(plain.lengths.argmax())
    torch.testing.assert_close(ours[name][most], theirs[name][most], rtol=1e-4, atol=1e-7)
    assert harness.task("prompts_math", protocol="paper").padding


def test_memory_plan(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The formulas of docs/large-models.md at small size: adapters, gradients in every layer and in the last one."""
    made = some_model(models["Llama"])
    layers, d, rank = made.model.config.num_hidden_layers, made.model.config.hidden_size, ADAPTERS.rank
    heads = made.model.config.num_key_value_heads * d // made.model.config.num_attention_heads
    expected = rank * layers * ((d + d) + (d + heads))  # queries and values
    assert sum(values.numel() for values in made.trainable()) == expected

    sizes = []
    resize = torch.from_file
    monkeypatch.setattr(
        torch, "from_file", lambda *args, **named: sizes.append(named["size"]) or resize(*args, **named)
    )
    monkeypatch.setenv("HARNESS_GRADIENTS_GIB", "0")
    shown = prompt_tokens(made, PROMPTS, 200).shown("prompt")
    adapter_gradients(*shown, loss=token_losses)
    adapter_gradients(*shown, made.last_layer, token_losses)
    assert sizes == [len(PROMPTS) * expected, len(PROMPTS) * expected // layers]


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setenv("HARNESS_GRADIENTS_GIB", "0")
    with pytest.raises(RequestError, match=r"gradients need 1\.0 GiB in .*, which has no room .*TMPDIR"):
        allocated({"a": (2**14, 2**13)}, 2, torch.device("cpu"))


def test_losses_by_hand() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2], logits[0, 1, 3], logits[1, 0, 1] = 1.0, 2.0, 5.0
    targets = torch.tensor([[9, 2, 0, -100], [9, 1, -100, -100]])
    first = -np.log(np.e / (3 + np.e)), -np.log(1 / (3 + np.e**2))
    expected = torch.tensor([np.mean(first), -np.log(np.e**5 / (3 + np.e**5))], dtype=torch.float32)
    torch.testing.assert_close(token_losses(logits, targets), expected)
    assert token_losses(logits, torch.full((2, 4), -100)).tolist() == [0, 0]


def test_which_tokens_count(models: dict[str, Path]) -> None:
    tokenizer = language_model(str(models["Llama"]), "float32", ADAPTERS, "cpu").tokenizer
    for part, counted in (("prompt", ["<s>", "a ->"]), ("answer", [" b</s>"]), ("text", ["<s>a -> b</s>"])):
        tokens, targets = tokenised_prompts(tokenizer, [Prompt("a -> ", "b", "k")], 50, part)  # type: ignore[arg-type]
        told = tokenizer.decode(targets[0][targets[0] >= 0])
        assert told.replace(" ", "") == "".join(counted).replace(" ", "")
        assert (int(tokens["input_ids"][0][-1]) == tokenizer.eos_token_id) == (part != "prompt")
    with pytest.raises(RequestError, match="max_tokens=2 leaves no room for the answer to a prompt of"):
        tokenised_prompts(tokenizer, [Prompt("a -> ", "b", "k")], 2, "text")


def test_right_answers_are_those_of_greedy_decoding() -> None:
    prompts = [Prompt(f"{word} -> ", word.upper(), "k") for word in ("one", "two", "six", "ten", "nil")]
    made = tiny_language_model(prompts[:3], 60, ADAPTERS, seed=0)
    of = prompt_tokens(made, prompts, 60)
    found = answers(of.text, of.answers, Recipe(1, 2, 1e-3, 0.0, 0.0, "float32"))
    right = []
    for each in prompts:
        given = made.tokenizer(each.prompt.rstrip(), return_tensors="pt")
        made_up = made.model.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
        right.append(made.tokenizer.decode(made_up[0], skip_special_tokens=True) == f"{each.prompt}{each.answer}")
    assert right[:3] == [True, True, True]
    assert found["accuracy"] == np.mean(right) < 1


def test_models_that_cannot_be_had(models: dict[str, Path], tmp_path: Path, offline: None) -> None:  # noqa: F811
    with pytest.raises(RequestError, match=r"neither in a folder here nor .*HF_HUB_OFFLINE=1 is set"):
        language_model("nobody/nothing", "float32", ADAPTERS, "cpu")
    with pytest.raises(RequestError, match=r"no linear layer called 'qproj' \(did you mean 'q_proj'\?\)"):
        language_model(str(models["Llama"]), "float32", Adapters(2, 2.0, 0.0, "qproj+v_proj"), "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="the folder holds no tokenizer"):
        language_model(str(tmp_path / "empty"), "float32", ADAPTERS, "cpu")


def test_weights_in_half_precision_have_adapters_in_single(models: dict[str, Path]) -> None:
    exact = some_model(models["Llama"])
    made = language_model(str(models["Llama"]), "bfloat16", ADAPTERS, "cpu")
    made.load(exact.state())
    kinds: dict[torch.dtype, set[str]] = {}
    for name, values in made.model.named_parameters():
        kinds.setdefault(values.dtype, set()).add(name)
    assert set(kinds) == {torch.float32, torch.bfloat16}
    assert kinds[torch.float32] == set(made.adapters)
    found, expected = (
        adapter_gradients(*prompt_tokens(each, PROMPTS, 200).shown("prompt"), loss=token_losses)
        for each in (made, exact)
    )
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        assert 0 < float((found[name] - values).norm() / values.norm()) < 0.1
