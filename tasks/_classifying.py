"""Predictions of an encoder with a classification head: features, class probabilities and accuracy on texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tasks._text_training import READ_TOKENS, Recipe, Tokens, by_size


@torch.no_grad()
def read_out(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The head's input (n, d) and class probabilities (n, c), in float32 and eval mode, in the samples' order."""
    encoder: Any = tokens.adapted
    head = encoder.model.get_submodule(encoder.head)
    heads: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0].float()))
    encoder.model.eval()
    order = tokens.lengths.argsort(stable=True)
    try:
        probs = torch.cat(
            [
                encoder.model(**tokens.batch(order[chunk])).logits.softmax(1)
                for chunk in by_size(tokens.lengths[order], READ_TOKENS[tokens.device.type])
            ]
        )
    finally:
        handle.remove()
    back = order.argsort().to(probs.device)
    return torch.cat(heads)[back], probs[back]


@torch.no_grad()
def accuracy(tokens: Tokens, labels: Tensor, recipe: Recipe) -> float:
    """The share of samples whose label the encoder predicts, in eval mode and in the recipe's precision."""
    tokens.adapted.model.eval()
    order = tokens.lengths.argsort(stable=True)
    right = torch.zeros((), dtype=torch.int64, device=labels.device)
    for chunk in by_size(tokens.lengths[order], READ_TOKENS[tokens.device.type]):
        rows = order[chunk]
        with recipe.autocast(labels.device):
            logits = tokens.adapted.model(**tokens.batch(rows)).logits
        right += (logits.argmax(1) == labels[rows.to(labels.device)]).sum()
    return int(right) / max(1, len(tokens))
