"""Text encoders with LoRA adapters and a classification head. One process loads each encoder once for all models."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from harness.errors import RequestError
from harness.randomness import global_seed
from tasks._adapters import Adapted, Adapters, pretrained_tokenizer, quiet, require_libraries, targets_of, unavailable

VALUES = ("value", "v_proj", "value_proj", "v_lin", "Wqkv", "query_key_value", "v")
"""Names of the attention's value matrices in known model families; the first name that a model has is used.

If a family stores query, key and value as one matrix, the name is that of this matrix.
"""


class Encoder(Adapted):
    """An adapted sequence classifier.

    Args:
        new: modules inside the encoder that are trained beside the head.

    Attributes:
        model: maps ``input_ids`` and the like to an output with ``logits``, (n, c).
        head: name of the head's output projection, a linear layer.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, adapters: Adapters, new: Sequence[str] = ()) -> None:
        prefix = str(getattr(model, "base_model_prefix", ""))
        projection = _projection_of(model)
        super().__init__(
            tokenizer,
            model.float(),
            adapters,
            "SEQ_CLS",
            targets_of(model, adapters.target, [[name] for name in VALUES], "attention value matrix"),
            [*(name for name, child in model.named_children() if name != prefix and _has_weights(child)), *new],
        )
        top, _, rest = projection.partition(".")
        self.head = f"base_model.model.{top}.modules_to_save.default{'.' * bool(rest)}{rest}"


@functools.lru_cache(maxsize=2)
def encoder(name: str, n_classes: int, adapters: Adapters) -> Encoder:
    """A pretrained encoder by a hub name or a local folder, in float32, loaded once per process.

    Raises:
        RequestError: the encoder is not found, has no tokenizer, or cannot classify sequences.
    """
    require_libraries()
    from transformers import AutoModelForSequenceClassification

    with quiet(), global_seed(0):  # layers without stored weights are drawn at random
        tokenizer = pretrained_tokenizer(name)
        try:
            model, told = AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=n_classes, output_loading_info=True
            )
        except Exception as error:  # the hub's client raises many kinds
            raise unavailable(name, "model", error) from error
        if tokenizer.pad_token is None:
            raise RequestError(f"model={name}: its tokenizer has no padding token, so it cannot take texts in batches")
        try:
            return Encoder(tokenizer, model, adapters, _new(model, told["missing_keys"]))
        except RequestError as error:
            raise RequestError(f"model={name}: {error}") from error


def _new(model: Any, missing: Iterable[str]) -> list[str]:
    """Modules inside the encoder that are trained with the head, because the stored weights lack them: a pooler.

    Raises:
        RequestError: the stored weights lack another module.
    """
    prefix = f"{model.base_model_prefix}."
    inside = [key for key in missing if key.startswith(prefix)]
    others = [key for key in inside if not key.startswith(f"{prefix}pooler.")]
    if others:
        raise RequestError(f"its weights lack {others[0]} and {len(others) - 1} others, so they are of another model")
    return ["pooler"] if inside else []


def _projection_of(model: nn.Module) -> str:
    """The name of a classifier's output projection."""
    for name in ("classifier.out_proj", "classifier"):
        try:
            module = model.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(module, nn.Linear):
            return name
    raise RequestError(
        f"{type(model).__name__} has no linear classification head where encoders have it, classifier.out_proj or "
        "classifier"
    )


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
