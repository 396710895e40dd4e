"""Small GLUE folders in the original layouts, and small encoder folders, written for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra nlp is not installed")
pytest.importorskip("peft", reason="the extra nlp is not installed")

from tasks._adapters import Adapted, Adapters
from tasks._encoders import Encoder, encoder
from tasks._tiny_encoder import _words

GOOD, BAD = ["fine", "lovely", "moving", "bright", "warm"], ["dull", "awful", "clumsy", "bleak", "cold"]
FILLER = ["the", "film", "is", "and", "was", "a", "plot", "with", "acting", "of", "scenes", "story"]
ADAPTERS = Adapters(rank=4, alpha=4.0, dropout=0.05)
HEADERS = {
    "QNLI": "index\tquestion\tsentence\tlabel",
    "SST-2": "sentence\tlabel",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
}


def sentence(rng: np.random.Generator, label: int) -> str:
    """Filler with some words that tell the label; of any length between 2 and 20 words."""
    words = [*rng.choice(FILLER, int(rng.integers(1, 18))), *rng.choice(GOOD if label else BAD, 2)]
    return " ".join(rng.permutation(words))


def row_of(task: str, number: int, label: int, texts: Sequence[str]) -> str:
    named = ("entailment", "not_entailment")[label]
    return {
        "QNLI": f"{number}\t{texts[0]}\t{texts[1]}\t{named}",
        "SST-2": f"{texts[0]}\t{label}",
        "QQP": f"{number}\t1\t2\t{texts[0]}\t{texts[1]}\t{label}",
        "MRPC": f"{label}\t1\t2\t{texts[0]}\t{texts[1]}",
    }[task]


def write_glue(folder: Path, n_train: int = 1000, n_dev: int = 80, tasks: Sequence[str] = tuple(HEADERS)) -> None:
    rng = np.random.default_rng(0)
    for task in tasks:
        (folder / task).mkdir(parents=True)
        for split, n in (("train", n_train), ("dev", n_dev)):
            labels = rng.permutation(np.arange(n) % 2)
            rows = [row_of(task, i, y, (sentence(rng, y), sentence(rng, y))) for i, y in enumerate(labels)]
            start = "\ufeff" if task == "MRPC" else ""
            (folder / task / f"{split}.tsv").write_text(start + "\n".join([HEADERS[task], *rows]) + "\n", "utf-8")


@pytest.fixture(scope="session")
def glue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glue")
    write_glue(folder)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with HF_HUB_OFFLINE=1 from the start, as the hub's client reads it when it is imported."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def glue(glue_folder: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> Path:
    """A data folder with all four tasks, and no network."""
    monkeypatch.setenv("HARNESS_DATA", str(glue_folder))
    return glue_folder


SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": SIZES,
    "Roberta": {**SIZES, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "type_vocab_size": 2},
    "Electra": {**SIZES, "embedding_size": 16},
    "DistilBert": {"n_layers": 2, "n_heads": 2, "dim": 16, "hidden_dim": 24},
    "DebertaV2": {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2},
}


def write_encoder(folder: Path, family: str = "Bert", tokenizer: bool = True) -> Path:
    """A model folder as `save_pretrained` makes it: two layers, 16 wide."""
    import transformers

    words = _words([(" ".join([*GOOD, *BAD, *FILLER]),)])
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(words), max_position_embeddings=66, initializer_range=0.3, **FAMILIES[family]
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    model.save_pretrained(folder)
    if tokenizer:
        words.model_max_length = 64
        if family == "DistilBert":
            words.model_input_names = ["input_ids", "attention_mask"]
        words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder a family."""
    return {family: write_encoder(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def some_encoder(folder: Path) -> Encoder:
    """One with adapters that are not zero, as after some training."""
    made = encoder(str(folder), 2, ADAPTERS)
    disturb(made)
    return made


def disturb(made: Adapted) -> None:
    """Adapters that are not zero, as after some training."""
    made.reset(0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in made.trainable():
            values.add_(0.3 * torch.randn(values.shape, generator=generator))
