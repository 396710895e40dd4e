"""Encoders with adapters: families of models, gradients against backward passes, and what cannot be loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.errors import RequestError
from harness.interfaces.outputs import Outputs
from tasks import _classifying, _text_training
from tasks._adapters import Adapters, folder_digest, targets_of
from tasks._classifying import read_out
from tasks._encoders import encoder
from tasks._text_training import adapter_gradients, tokenised
from tests.glue_files import (  # noqa: F401 - fixtures too
    ADAPTERS,
    FAMILIES,
    FILLER,
    GOOD,
    encoder_folders,
    offline,
    some_encoder,
    write_encoder,
)

TEXTS = [
    ("the film", "a plot of it"),
    (" ".join(FILLER[:9]), " ".join([*GOOD, *FILLER] * 2)),
    ("", ""),
    ("warm", " ".join(FILLER)),
    ("lovely unknownword", "bleak"),
]
LABELS = torch.tensor([0, 1, 1, 0, 1])


def alone(made: Any, tokens: Any, i: int) -> dict[str, torch.Tensor]:
    """Gradients of one sample by itself, without padding, by an ordinary backward pass."""
    rows = torch.tensor([i])
    made.model.eval()
    loss = cross_entropy(made.model(**tokens.batch(rows)).logits, LABELS[rows])
    return dict(zip(made._trained, torch.autograd.grad(loss, made.trainable(), allow_unused=True), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [4096, 60, 1])
def test_gradients_are_those_of_single_backward_passes(
    encoder_folders: dict[str, Path],  # noqa: F811
    family: str,
    budget: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_text_training, "GRADIENT_TOKENS", {"cpu": budget})
    monkeypatch.setattr(_classifying, "READ_TOKENS", {"cpu": budget})
    made = some_encoder(encoder_folders[family])
    tokens = tokenised(made, TEXTS, 64)
    found = adapter_gradients(tokens, LABELS)
    features, probs = read_out(tokens)
    head = Outputs(LABELS, probs, features).gradients()["head"].rows(slice(None))
    assert len(found) == 4
    assert all(".lora_" in name and name.endswith(("lora_A", "lora_B")) for name in found)
    largest = {name: float(values.abs().max()) for name, values in found.items()}
    assert min(largest.values()) > 0
    for i in range(len(TEXTS)):
        expected = alone(made, tokens, i)
        for name, full in zip(found, made.adapters, strict=True):
            torch.testing.assert_close(found[name][i], expected[full], rtol=1e-5, atol=1e-5 * largest[name])
        projection = expected[f"{made.head}.weight"].flatten()
        torch.testing.assert_close(head[i], projection, rtol=1e-5, atol=1e-5 * float(head.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(encoder_folders: dict[str, Path], family: str) -> None:  # noqa: F811
    made = some_encoder(encoder_folders[family])
    short, labels = [TEXTS[0]], LABELS[:1]
    narrow = adapter_gradients(tokenised(made, short, 64), labels)
    wide = adapter_gradients(tokenised(made, [*short, TEXTS[1]], 64), LABELS[:2])
    for name, values in narrow.items():
        atol = 1e-6 * float(values.abs().max())
        torch.testing.assert_close(wide[name][:1], values, rtol=1e-5, atol=atol)
    features, probs = read_out(tokenised(made, [*short, TEXTS[1]], 64))
    torch.testing.assert_close(read_out(tokenised(made, short, 64)), (features[:1], probs[:1]))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_adapters_and_head_are_trained(encoder_folders: dict[str, Path], family: str) -> None:  # noqa: F811
    made = encoder(str(encoder_folders[family]), 2, ADAPTERS)
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in made.adapters}
    assert adapted == {{"DistilBert": "v_lin", "DebertaV2": "value_proj"}.get(family, "value")}
    assert {tuple(made._trained[name].shape) for name in made.adapters} == {(4, 16), (16, 4)}
    others = [name for name in made._trained if name not in made.adapters]
    assert f"{made.head}.weight" in others
    assert all(".modules_to_save." in name for name in others)
    made.reset(3)
    first = made.state()
    made.reset(4)
    assert any(not torch.equal(first[name], values) for name, values in made.state().items())
    made.reset(3)
    assert all(torch.equal(first[name], values) for name, values in made.state().items())
    assert all(bool((values == 0).all()) == (".lora_B" in n or n.endswith("bias")) for n, values in first.items())


def test_base_weights_are_loaded_once(encoder_folders: dict[str, Path]) -> None:  # noqa: F811
    from transformers import AutoModelForSequenceClassification as Auto

    encoder.cache_clear()
    with mock.patch.object(Auto, "from_pretrained", wraps=Auto.from_pretrained) as loads:
        ours = encoder(str(encoder_folders["Bert"]), 2, ADAPTERS)
        assert encoder(str(encoder_folders["Bert"]), 2, ADAPTERS) is ours
        encoder(str(encoder_folders["Bert"]), 2, Adapters(2, 2.0, 0.0))
    assert loads.call_count == 2


def test_weights_saved_in_half_precision_are_used_in_single(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    folder = write_encoder(tmp_path)
    BertForSequenceClassification.from_pretrained(folder).half().save_pretrained(folder)
    assert {values.dtype for values in encoder(str(folder), 2, ADAPTERS).model.parameters()} == {torch.float32}


def test_target_by_name(encoder_folders: dict[str, Path]) -> None:  # noqa: F811
    folder = str(encoder_folders["Bert"])
    made = encoder(folder, 2, Adapters(2, 2.0, 0.0, "query"))
    assert all(".query." in name for name in made.adapters)
    with pytest.raises(RequestError, match=r"no linear layer called 'quary' \(did you mean 'query'\?\); its linear"):
        encoder(folder, 2, Adapters(2, 2.0, 0.0, "quary"))


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_folders_that_are_no_encoders(tmp_path: Path, offline: None) -> None:  # noqa: F811
    bare = write_encoder(tmp_path / "bare", tokenizer=False)
    with pytest.raises(RequestError, match="the folder holds no tokenizer that can be loaded"):
        encoder(str(bare), 2, ADAPTERS)
    odd = write_encoder(tmp_path / "odd")
    change_config(odd, model_type="nobodys")
    with pytest.raises(RequestError, match=r"the folder holds no \w+ that can be loaded .*nobodys"):
        encoder(str(odd), 2, ADAPTERS)
    torn = write_encoder(tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RequestError, match="the folder holds no model that can be loaded"):
        encoder(str(torn), 2, ADAPTERS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="the folder holds no tokenizer"):
        encoder(str(tmp_path / "empty"), 2, ADAPTERS)
    with pytest.raises(RequestError, match=r"neither in a folder here nor .*HF_HUB_OFFLINE=1 is set.*model=tiny"):
        encoder("nobody/nothing", 2, ADAPTERS)


def test_a_family_that_is_not_known(tmp_path: Path) -> None:
    import transformers

    folder = write_encoder(tmp_path / "gpt2", "Bert")
    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=64, pad_token_id=0)
    with torch.random.fork_rng():
        transformers.GPT2ForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(RequestError, match="has no linear classification head where encoders have it"):
        encoder(str(folder), 2, ADAPTERS)
    with torch.random.fork_rng():
        odd = torch.nn.ModuleDict({"value_of": torch.nn.Linear(2, 2)})
    with pytest.raises(RequestError, match=r"no value matrix under a known name \(did you mean 'value_of'\?\); its"):
        targets_of(odd, None, [["value"], ["v_proj"]], "value matrix")


def test_a_pooler_that_the_weights_lack_is_trained(tmp_path: Path) -> None:
    from transformers import BertForMaskedLM, BertForSequenceClassification

    folder = write_encoder(tmp_path)
    with torch.random.fork_rng():
        BertForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    states = []
    for _ in range(2):
        encoder.cache_clear()
        made = encoder(str(folder), 2, ADAPTERS)
        made.reset(1)
        states.append(made.state())
        assert [name for name in made._trained if "pooler" in name]
    assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())
    whole = BertForSequenceClassification.from_pretrained(write_encoder(tmp_path / "whole"))
    state = {name: values for name, values in whole.state_dict().items() if "layer.1" not in name}
    whole.save_pretrained(tmp_path / "whole", state_dict=state)
    with pytest.raises(RequestError, match=r"its weights lack bert\.encoder\.layer\.1\..* so they are of another"):
        encoder(str(tmp_path / "whole"), 2, ADAPTERS)


def test_texts_that_are_too_long(encoder_folders: dict[str, Path]) -> None:  # noqa: F811
    made = encoder(str(encoder_folders["Bert"]), 2, ADAPTERS)
    tokens = tokenised(made, [("warm " * 500, "cold " * 500), ("warm", "")], 20)
    assert tokens.parts["input_ids"].shape == (2, 20)
    assert tokens.lengths.tolist() == [20, 4]
    with pytest.raises(RequestError, match="max_tokens=128 is more than the model takes, 64"):
        tokenised(made, TEXTS, 128)


def test_a_folder_is_told_from_another(tmp_path: Path) -> None:
    one, two = write_encoder(tmp_path / "one"), tmp_path / "two"
    shutil.copytree(one, two)
    assert folder_digest(str(one)) == folder_digest(str(two)) != folder_digest("nobody/nothing") == ""
    weights = bytearray((two / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (two / "model.safetensors").write_bytes(bytes(weights))
    assert folder_digest(str(one)) != folder_digest(str(two))
    shutil.copytree(one, two, dirs_exist_ok=True)
    assert folder_digest(str(one)) == folder_digest(str(two))
    change_config(two, hidden_act="relu")
    assert folder_digest(str(one)) != folder_digest(str(two))
