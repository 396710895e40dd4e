"""The shared code of moons, blobs and digits: vector inputs, and small networks that are trained many at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.interfaces.params import at_least
from harness.interfaces.task import Samples, Split, Task

if TYPE_CHECKING:
    from torch import nn

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from tasks._mlp import Recipe, Stack


@dataclass(frozen=True)
class TabularTask(Task):
    """A task whose model is a `tasks._mlp` network; a family gives the data and the recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, steps=1, lr=0, width=1, n_validation=0, weight_decay=0)
        n_test, n_validation = getattr(self, "n_test", None), getattr(self, "n_validation", 0)
        if n_test is not None and n_test <= n_validation:
            raise ValueError(f"n_test={n_test} must exceed n_validation={n_validation}, to leave samples to report on")

    @abstractmethod
    def recipe(self, n_classes: int) -> Recipe:
        """Network and training."""

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Stack:
        return next(self.train_all([(split, [keep], seed)]))[0]

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[Stack]]:
        import torch

        from tasks._mlp_training import Job, train

        jobs = []
        for split, keeps, seed in wanted:
            everything = np.ones(len(split.train), dtype=bool)
            masks = np.stack([everything if keep is None else keep for keep in keeps])
            if not masks.any(1).all():
                raise ValueError(f"budget={self.budget} leaves no sample to train on")
            jobs.append(Job(split.train.inputs, split.train.labels, torch.from_numpy(masks), seed))
        return train(jobs, self.recipe(wanted[0][0].n_classes))

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> Stack:
        from tasks._mlp_training import train_recorded

        return train_recorded(split.train.inputs, split.train.labels, seed, self.recipe(split.n_classes), recorder)

    def module(self, model: Stack, split: Split) -> nn.Module:
        from tasks._mlp import as_module

        return as_module(model)

    def l2_penalty(self, model: Stack, split: Split) -> float:
        return self.recipe(split.n_classes).weight_decay

    def outputs(self, model: Stack, samples: Samples) -> Outputs:
        from harness.interfaces.outputs import Outputs
        from tasks._mlp import probabilities

        features = model.features(samples.inputs)
        probs = probabilities(model.logits(features))[0]
        return Outputs(samples.labels, probs, features[0], bias=model.biases[-1] is not None)

    def evaluate(self, model: Stack, split: Split) -> dict[str, float]:
        from tasks._mlp import predictions

        predicted = predictions(model.logits(model.features(split.test.inputs))[0])
        return {"accuracy": float((predicted == split.test.labels).double().mean())}


def samples(inputs: Any, labels: Any) -> Samples:
    """Float32 inputs and int64 labels from arrays."""
    import torch

    return Samples(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)),
        torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)),
    )


def make_split(
    train: tuple[np.ndarray, np.ndarray],
    given: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    n_validation: int,
    n_classes: int,
    rng: np.random.Generator,
) -> Split:
    """A split whose validation sets are the first ``n_validation`` test samples, left out of the reported test set."""
    from tasks._noise import noisy_like

    inputs, truth = train
    references = {}
    if n_validation:
        held, clean = test[0][:n_validation], test[1][:n_validation]
        references = {
            "validation": samples(held, clean),
            "noisy_validation": samples(held, noisy_like(clean, truth, given, n_classes, rng)),
        }
    reported = samples(test[0][n_validation:], test[1][n_validation:])
    return Split(samples(inputs, given), reported, references, n_classes)
