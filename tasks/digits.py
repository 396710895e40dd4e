"""Scikit-learn's bundled images of handwritten digits, with label noise of a chosen kind and rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.interfaces.params import shares
from harness.interfaces.task import Split
from harness.selection.registry import register_task
from tasks._tabular import TabularTask, make_split

if TYPE_CHECKING:
    from tasks._mlp import Recipe


@register_task
@dataclass(frozen=True)
class Digits(TabularTask):
    """1,797 real 8 × 8 images of ten digits; the model is a network with one hidden layer.

    Args:
        noise: ``symmetric`` (any other class), ``pair`` (the next class) or ``feature`` (depends on the image).
        rate: share of wrong labels.
        n_train: number of training samples. All other samples are validation and test samples.
        n_validation: number of clean validation samples.
        width: width of the hidden layer.
        steps: full-batch Adam steps.
        lr: learning rate.
    """

    name: ClassVar[str] = "digits"
    title: ClassVar[str] = "Digits"
    source: ClassVar[str] = "scikit-learn's load_digits (Alpaydin & Kaynak 1998); not in the paper"
    requires: ClassVar[tuple[str, ...]] = ("sklearn.datasets",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"steps": 60, "n_train": 300}}
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"n_validation": 0}}

    noise: Literal["symmetric", "pair", "feature"] = "symmetric"
    rate: float = 0.1
    n_train: int = 1000
    n_validation: int = 200
    width: int = 64
    steps: int = 100
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        shares(self, "rate")
        if not 10 <= self.n_train <= 1797 - self.n_validation - 100:
            raise ValueError(
                f"n_train={self.n_train} must lie in 10 … {1697 - self.n_validation}, to leave 100 test images of 1797"
            )

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        from sklearn.datasets import load_digits

        from tasks import _noise

        rng = np.random.default_rng(seed)
        images, labels = load_digits(return_X_y=True)
        order = rng.permutation(len(images))
        inputs, truth = images[order] / 16, labels[order]
        train, test = (inputs[: self.n_train], truth[: self.n_train]), (inputs[self.n_train :], truth[self.n_train :])
        if self.noise == "feature":
            given = _noise.feature_dependent(*train, 10, self.rate, rng)
        else:
            flip = {"symmetric": _noise.symmetric, "pair": _noise.pair}[self.noise]
            given = flip(train[1], 10, self.rate, rng)
        return make_split(train, given, test, self.n_validation, 10, rng), train[1]

    def recipe(self, n_classes: int) -> Recipe:
        from tasks._mlp import Recipe

        return Recipe((self.width,), n_classes, True, self.steps, self.lr, 1e-4)
