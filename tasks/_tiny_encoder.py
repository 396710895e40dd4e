"""A small encoder and tokenizer, built locally: a replacement for a pretrained encoder without any download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from harness.randomness import global_seed
from tasks._adapters import Adapters, quiet, require_libraries
from tasks._encoders import Encoder
from tasks._glue_files import Texts

MAX_TOKENS = 128
VOCABULARY = 8000
BATCH, EPOCHS, RATE = 32, 3, 1e-3


def tiny_encoder(texts: Sequence[tuple[str, ...]], further: Texts, adapters: Adapters, seed: int) -> Encoder:
    """A two-layer BERT with a word-level tokenizer, first trained as a whole on further rows of the same task.

    Args:
        texts: the training texts; the tokenizer learns its words from them and the further ones.
        further: rows that no model of the task sees, with their right labels; without any the encoder stays as drawn.
        seed: of its weights and their training.
    """
    require_libraries()
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _words([*further.texts, *texts])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_TOKENS,
        num_labels=2,
    )
    with quiet(), global_seed(seed):
        model = BertForSequenceClassification(config)
        if len(further):
            _pretrain(model, tokenizer, further, seed)
        return Encoder(tokenizer, model, adapters)


def _pretrain(model: Any, tokenizer: Any, rows: Texts, seed: int) -> None:
    columns = [list(column) for column in zip(*rows.texts, strict=True)]
    tokens = tokenizer(*columns, truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
    lengths, labels = tokens["attention_mask"].sum(1), torch.from_numpy(rows.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.split(torch.randperm(len(rows), generator=generator), BATCH):
            parts = {name: values[chosen, : int(lengths[chosen].max())] for name, values in tokens.items()}
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(model(**parts).logits, labels[chosen]))
            optimiser.step()
    model.eval()


def _words(texts: Sequence[tuple[str, ...]]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordLevelTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    inner.train_from_iterator((text for row in texts for text in row), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
