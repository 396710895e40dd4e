"""Per-sample gradients of transformers and their adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from tests.any_model import C, alone, compare, seeded, tokens


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
