"""A split of images as a frozen encoder sees them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from harness.interfaces.task import Samples, Split
from tasks._feature_store import features_of
from tasks._probe import Features
from tasks._vision_encoders import vision_encoder


def embedded(split: Split, encoder: str, pixels: int, device: str = "cpu") -> Split:
    """The split with `Features` instead of images. The sets' features are read from the files, or computed.

    Args:
        encoder, pixels: as for `vision_encoder`.
        device: where missing features are computed.
    """
    import torch

    loaded = vision_encoder(encoder, pixels, device)
    sets = {"train": split.train, "test": split.test, **split.references}
    images: dict[int, Tensor] = {id(samples.inputs): samples.inputs for samples in sets.values()}  # some share images
    together = features_of(torch.cat([*images.values()]), encoder, loaded, device)
    parts = torch.split(together, [len(values) for values in images.values()])
    seen = {key: Features(part.clone(), values) for (key, values), part in zip(images.items(), parts, strict=True)}

    def changed(samples: Samples) -> Samples:
        return replace(samples, inputs=seen[id(samples.inputs)])

    references = {name: changed(samples) for name, samples in split.references.items()}
    return replace(split, train=changed(split.train), test=changed(split.test), references=references)
