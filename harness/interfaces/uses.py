"""What a method looked at, in the words that reports print: from the parts of the view that it asked for."""

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
"""Words of `Method.uses` by the view's part."""

VOCABULARY = tuple(dict.fromkeys(WORDS.values()))
"""All words of `Method.uses`."""

FROM_LABELS = {"gradients", "retraining"}
"""What is made from the given labels: who uses it uses them."""


def observed(used: Collection[str]) -> tuple[str, ...]:
    """The words for the parts that a view says were used, in the order of `WORDS`."""
    words = dict.fromkeys(word for name, word in WORDS.items() if name in used)
    if FROM_LABELS & words.keys():
        return tuple(dict.fromkeys(["labels", *words]))
    return tuple(words)
