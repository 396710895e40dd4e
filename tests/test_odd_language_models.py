"""Language models and tokenizers that are unlike Llama's, and hardware that is not here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the extra nlp is not installed")
pytest.importorskip("peft", reason="the extra nlp is not installed")

import transformers
from tokenizers import processors

from harness.errors import RequestError
from tasks import _language_models, _text_training
from tasks._adapters import Adapters, folder_digest
from tasks._language_models import check_language_model, language_model
from tasks._language_training import prompt_tokens, token_losses, tokenised_prompts
from tasks._text_training import adapter_gradients
from tests.glue_files import write_encoder
from tests.test_language_models import ADAPTERS, PROMPTS, some_model, write_model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("llama"), "Llama")


def with_tokenizer(folder: Path, to: Path, change: Any) -> Path:
    shutil.copytree(folder, to)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(to)
    return to


def test_a_tokenizer_without_an_end_is_refused(llama: Path, tmp_path: Path) -> None:
    def change(tokenizer: Any) -> None:
        tokenizer.eos_token = None

    folder = with_tokenizer(llama, tmp_path / "endless", change)
    for attempt in (check_language_model, lambda *given: language_model(*given, "cpu")):
        with pytest.raises(RequestError, match="its tokenizer has no end token"):
            attempt(str(folder), "float32", ADAPTERS)


def test_a_tokenizer_without_padding_pads_with_the_end(llama: Path, tmp_path: Path) -> None:
    def change(tokenizer: Any) -> None:
        tokenizer.pad_token = None

    made = language_model(str(with_tokenizer(llama, tmp_path / "unpadded", change)), "float32", ADAPTERS, "cpu")
    assert made.tokenizer.pad_token_id == made.tokenizer.eos_token_id == 2
    usual = some_model(llama)
    for part in ("prompt", "answer", "text"):
        (ours, counted), (theirs, also) = (tokenised_prompts(m.tokenizer, PROMPTS, 200, part) for m in (made, usual))
        assert torch.equal(counted, also)
        assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


def test_a_tokenizer_that_adds_an_end_adds_none_here(llama: Path, tmp_path: Path) -> None:
    def change(tokenizer: Any) -> None:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )

    folder = with_tokenizer(llama, tmp_path / "ending", change)
    ending, usual = (transformers.AutoTokenizer.from_pretrained(each) for each in (folder, llama))
    assert ending("a")["input_ids"][-1] == 2 != usual("a")["input_ids"][-1]
    for part in ("prompt", "answer", "text"):
        (ours, counted), (theirs, also) = (tokenised_prompts(each, PROMPTS, 200, part) for each in (ending, usual))
        assert torch.equal(ours["input_ids"], theirs["input_ids"])
        assert torch.equal(counted, also)


def test_an_encoder_is_no_causal_model(tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(write_encoder(tmp_path / "made", "Roberta"))
    with torch.random.fork_rng():
        transformers.RobertaForMaskedLM(config).save_pretrained(tmp_path / "made")
    folder = with_tokenizer(tmp_path / "made", tmp_path / "roberta", lambda made: setattr(made, "eos_token", "good"))
    with pytest.raises(RequestError, match="no attention query and value matrices under a known name"):
        check_language_model(str(folder), "float32", ADAPTERS)
    named = Adapters(2, 8.0, 0.05, "query+value")
    with pytest.raises(RequestError, match="a token's output depends on later ones"):
        language_model(str(folder), "float32", named, "cpu")


def test_whole_numbers_are_multiplied_with_bfloat16(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a card: what is asked of transformers, and where the model may go."""
    asked: dict[str, Any] = {}
    load = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(name: str, **options: Any) -> Any:
        asked.update(options)
        model = load(name, torch_dtype=options["torch_dtype"])
        model.is_quantized = True
        return model

    monkeypatch.setattr(_language_models, "_loaded", {})
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("tasks._adapters.find_spec", lambda name: name)
    made = language_model(str(llama), "int8", ADAPTERS, "cpu")
    assert asked["torch_dtype"] == torch.bfloat16
    assert asked["quantization_config"].load_in_8bit
    assert asked["device_map"] == {"": "cpu"}
    assert made.to("cpu") is made
    with pytest.raises(RequestError, match=r"device=cuda:1: weights=int8 are loaded to cpu and stay there"):
        made.to("cuda:1")
    assert {values.dtype for values in made.trainable()} == {torch.float32}


def test_int8_needs_a_card(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_language_models, "_loaded", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("tasks._adapters.find_spec", lambda name: name)
    with pytest.raises(RequestError, match="weights=int8 needs a CUDA device"):
        language_model(str(llama), "int8", ADAPTERS, "cpu")


def test_memory_holds_one_model(llama: Path) -> None:
    first = language_model(str(llama), "float32", ADAPTERS, "cpu")
    assert language_model(str(llama), "float32", ADAPTERS, "cpu") is first
    language_model(str(llama), "bfloat16", ADAPTERS, "cpu")
    assert len(_language_models._loaded) == 1
    assert language_model(str(llama), "float32", ADAPTERS, "cpu") is not first


def test_gradients_take_fewer_tokens_together_where_memory_is_short(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = some_model(llama)
    shown = prompt_tokens(made, PROMPTS, 200).shown("prompt")
    expected = adapter_gradients(*shown, loss=token_losses)
    sizes: list[int] = []

    def short(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sizes.append(len(targets))
        if len(targets) > limit:
            raise torch.OutOfMemoryError("none left")
        return token_losses(logits, targets)

    monkeypatch.setattr(_text_training, "GRADIENT_TOKENS", {"cpu": 400})
    monkeypatch.setattr("harness.gradients.per_sample.CHECKED", 1)
    limit = 2
    found = adapter_gradients(*shown, loss=short)
    assert max(sizes) > 2
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-6)
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        adapter_gradients(*shown, loss=short)


def test_a_folder_whose_weights_changed_in_the_middle_is_another(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    content = bytearray(2**27)
    weights.write_bytes(content)
    before = folder_digest(str(tmp_path))
    content[2**26 + 5] = 1
    weights.write_bytes(content)
    assert folder_digest(str(tmp_path)) != before
    assert folder_digest("some/model") == ""
