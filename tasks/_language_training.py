"""Prompts as tokens, the losses of the tokens that count, and what a language model can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.errors import RequestError
from tasks._adapters import Adapted
from tasks._prompt_sets import Prompt
from tasks._text_training import READ_TOKENS, Recipe, Tokens, by_size

Part = Literal["prompt", "answer", "text"]
IGNORED = -100
"""The target of a token that does not count."""


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """Prompts as a model is trained on them, tested on them, and as gradients see them.

    Args:
        text: the whole texts; ``targets`` (n, t) of all their tokens, ``answers`` of their answers'.
        prompts: the texts themselves.
        most: tokens a sample; longer ones are cut.
    """

    text: Tokens
    targets: Tensor
    answers: Tensor
    prompts: Sequence[Prompt]
    most: int

    def __len__(self) -> int:
        return len(self.prompts)

    def to(self, device: str) -> PromptTokens:
        return PromptTokens(
            self.text.to(device), self.targets.to(device), self.answers.to(device), self.prompts, self.most
        )

    def shown(self, part: Part, padding: bool = False) -> tuple[Tokens, Tensor]:
        """The texts whose loss gradients are of, and the targets (n, t) of their tokens that count.

        Args:
            padding: whether padding counts; see `with_padding`.
        """
        adapted = self.text.adapted
        parts, targets = tokenised_prompts(adapted.tokenizer, self.prompts, self.most, part)
        tokens = Tokens(adapted, parts, parts["attention_mask"].sum(1))
        if padding:
            tokens, targets = with_padding(tokens, targets, adapted.tokenizer.eos_token_id)
        device = str(self.targets.device)
        return tokens.to(device), targets.to(device)


def prompt_tokens(adapted: Adapted, prompts: Sequence[Prompt], most: int) -> PromptTokens:
    """Prompts in the forms that training and testing need.

    Raises:
        RequestError: the model takes fewer tokens, or a prompt leaves no room for its answer.
    """
    if most > adapted.most_tokens:
        raise RequestError(f"max_tokens={most} is more than the model takes, {adapted.most_tokens}")
    parts, targets = tokenised_prompts(adapted.tokenizer, prompts, most, "text")
    text = Tokens(adapted, parts, parts["attention_mask"].sum(1))
    return PromptTokens(text, targets, tokenised_prompts(adapted.tokenizer, prompts, most, "answer")[1], prompts, most)


def with_padding(tokens: Tokens, targets: Tensor, end: int) -> tuple[Tokens, Tensor]:
    """Tokens padded by the end token to the longest of their set, and targets by which the padding counts, too.

    No token attends to the padding. The reference code takes gradients of such losses.
    """
    padded = tokens.parts["attention_mask"] == 0
    ids = tokens.parts["input_ids"].masked_fill(padded, end)
    lengths = torch.full_like(tokens.lengths, ids.shape[1])
    return replace(tokens, parts=tokens.parts | {"input_ids": ids}, lengths=lengths), targets.masked_fill(padded, end)


def tokenised_prompts(
    tokenizer: Any, prompts: Sequence[Prompt], most: int, part: Part
) -> tuple[dict[str, Tensor], Tensor]:
    """Token ids and mask (n, t) of prompts with their answers and an end, and the targets of the tokens that count.

    A target (n, t) is the token itself where it counts, and −100 elsewhere. Of ``prompt`` the answer is left out of
    the tokens, too; of ``answer`` the prompt is there and does not count.

    Args:
        most: tokens a sample; longer ones are cut, but the first token of an answer must be among them.

    Raises:
        RequestError: a prompt that leaves no room for its answer.
    """
    sequences, counted_from = [], []
    for prompt in prompts:
        first = _tokens(tokenizer, prompt.prompt.rstrip())
        whole = [*_tokens(tokenizer, f"{prompt.prompt}{prompt.answer}"), tokenizer.eos_token_id]
        if len(first) >= most:
            raise RequestError(f"max_tokens={most} leaves no room for the answer to a prompt of {len(first)} tokens")
        sequences.append((first if part == "prompt" else whole)[:most])
        counted_from.append(_common(first, whole) if part == "answer" else 0)
    longest = max(map(len, sequences))
    ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
    mask = torch.zeros(len(prompts), longest, dtype=torch.int64)
    targets = torch.full((len(prompts), longest), IGNORED)
    for i, (tokens, start) in enumerate(zip(sequences, counted_from, strict=True)):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        mask[i, : len(tokens)] = 1
        targets[i, start : len(tokens)] = ids[i, start : len(tokens)]
    return {"input_ids": ids, "attention_mask": mask}, targets


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids without an end, which some tokenizers add to whatever they are given."""
    numbers = list(tokenizer(text)["input_ids"])
    while numbers and numbers[-1] == tokenizer.eos_token_id:
        numbers.pop()
    return numbers


def _common(first: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = zip(first, whole, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(first), len(whole)))


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each sample's next tokens, over those that count, (n,).

    Args:
        logits: (n, t, v).
        targets: (n, T ≥ t), −100 where a token does not count; the first token has nothing before it and never does.
    """
    n, t, _ = logits.shape
    nothing = torch.full((n, 1), IGNORED, dtype=targets.dtype, device=targets.device)
    wanted = torch.cat([targets[:, 1:t], nothing], 1)  # shifting the targets spares a copy of all logits
    losses = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none")
    counts = (wanted != IGNORED).sum(1)
    return losses.view(n, t).sum(1) / counts.clamp_min(1)


@torch.no_grad()
def answers(tokens: Tokens, targets: Tensor, recipe: Recipe) -> dict[str, float]:
    """Mean loss of the answers, and the share of those that greedy decoding would give to the letter.

    Args:
        targets: (n, t) with the answers' tokens.
    """
    model = tokens.adapted.model
    model.eval()
    order = tokens.lengths.argsort(stable=True)
    loss = torch.zeros((), dtype=torch.float64, device=targets.device)
    right = torch.zeros((), dtype=torch.int64, device=targets.device)
    for chunk in by_size(tokens.lengths[order], READ_TOKENS[tokens.device.type]):
        rows = order[chunk]
        wanted = targets[rows.to(targets.device)]
        with recipe.autocast(targets.device):
            logits = model(**tokens.batch(rows)).logits
        loss += token_losses(logits.float(), wanted).double().sum()
        wanted = wanted[:, 1 : logits.shape[1]]
        right += ((logits[:, :-1].argmax(2) == wanted) | (wanted == IGNORED)).all(1).sum()
    return {"loss": float(loss) / len(tokens), "accuracy": int(right) / len(tokens)}
