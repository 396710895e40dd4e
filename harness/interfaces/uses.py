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
    "out_of_sample_probs": "retraining",
}
"""The word of `Method.uses` for each part of a view."""

VOCABULARY = tuple(dict.fromkeys(WORDS.values()))
"""All words of `Method.uses`."""

FROM_LABELS = {"gradients", "retraining"}
"""Parts that are computed from the given labels. A method that uses such a part also uses the labels."""


def observed(used: Collection[str]) -> tuple[str, ...]:
    """The words for the parts that a view says were used, in the order of `WORDS`."""
    words = dict.fromkeys(word for name, word in WORDS.items() if name in used)
    if FROM_LABELS & words.keys():
        return tuple(dict.fromkeys(["labels", *words]))
    return tuple(words)
