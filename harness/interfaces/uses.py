"""The words that reports print for the parts of a view that a method asked for."""

from __future__ import annotations

from collections.abc import Collection

WORDS = {
    "labels": "labels",
    "probs": "probs",
    "features": "features",
    "classes": "class labels",
    "gradients": "gradients",
    "last_layer": "gradients",
    "reference:validation": "clean validation",
    "reference:noisy_validation": "noisy validation",
    "retraining": "retraining",
    "out_of_sample_probs": "out-of-sample probabilities",
    "dynamics": "training dynamics",
    "checkpoints": "checkpoints",
    "inputs": "inputs",
    "model": "model",
    "encoder_features": "encoder",
    "truth": "true labels",
}
"""The word of `Method.uses` for each part of a view."""

NEEDS_MODEL = {
    "retraining",
    "out-of-sample probabilities",
    "training dynamics",
    "checkpoints",
    "inputs",
    "model",
    "encoder",
}
"""Words of what a view of arrays cannot offer, because it has no model."""

RECORDED = {"training dynamics", "checkpoints"}
"""Words of what is recorded while the base model trains."""

VOCABULARY = tuple(dict.fromkeys(WORDS.values()))
"""All words of `Method.uses`."""

FROM_LABELS = {"gradients", "retraining", "out-of-sample probabilities"}
"""Parts that are computed from the given labels. A method that uses such a part also uses the labels."""


def of_reference(name: str) -> tuple[str, ...]:
    """The word for a reference set, as a tuple; empty for sets that count as no extra data (`train`, `test`)."""
    return (WORDS[f"reference:{name}"],) if f"reference:{name}" in WORDS else ()


def observed(used: Collection[str]) -> tuple[str, ...]:
    """The words for the parts that a view says were used, in the order of `WORDS`."""
    names = {name.rpartition("/")[2] for name in used}  # of a checkpoint's parts, "checkpoint 0/probs"
    words = dict.fromkeys(word for name, word in WORDS.items() if name in names)
    if FROM_LABELS & words.keys():
        return tuple(dict.fromkeys(["labels", *words]))
    return tuple(words)
