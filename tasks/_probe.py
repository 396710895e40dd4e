"""A head on a frozen encoder's features: softmax regression, or a network with one hidden layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split
from tasks._hidden_head import HiddenHead, HiddenRecipe, train
from tasks._preconditioned import Head, Preconditioned, Spectrum
from tasks._softmax_head import fit

if TYPE_CHECKING:
    from harness.interfaces.dynamics import Recorder

PENALTIES = 10.0 ** np.arange(0.5, -4.01, -0.5)
"""The penalties that are tried, in units of the features' mean variance."""

HELD_OUT = 10
"""Without noisy validation samples, every tenth training sample is held out to choose the penalty."""


@dataclass(frozen=True, eq=False)
class Features:
    """Images as an encoder sees them.

    Args:
        values: (n, d) float32.
        images: (n, 3, h, w) uint8, for figures; on the CPU.
        fitted: what is computed once for all heads on these features.
    """

    values: Tensor
    images: Tensor
    fitted: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> Features:
        return Features(self.values[rows], self.images[rows])

    def to(self, device: str) -> Features:
        if str(self.values.device) == device:
            return self
        return Features(self.values.to(device), self.images)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the features' covariance."""
        return Spectrum.of(self.values)

    def preconditioned(self, penalty: float) -> Preconditioned:
        """The features in the coordinates of one penalty, kept for the next heads of this penalty."""
        if self.fitted.get("coordinates", (None,))[0] != penalty:
            self.fitted["coordinates"] = penalty, Preconditioned(self.values, self.spectrum, penalty)
        coordinates: Preconditioned = self.fitted["coordinates"][1]
        return coordinates


@dataclass(frozen=True, eq=False)
class TrainedProbe:
    """A trained head, with the interface of `tasks._trained_network.TrainedNetwork`."""

    head: Head | HiddenHead

    def module(self) -> nn.Module:
        """The head as a torch module from features to logits."""
        if isinstance(self.head, HiddenHead):
            return self.head
        linear = nn.Linear(self.head.weight.shape[1], len(self.head.weight), device="meta")  # draws no numbers
        linear.weight, linear.bias = nn.Parameter(self.head.weight.clone()), nn.Parameter(self.head.bias.clone())
        return linear.eval()

    def outputs(self, samples: Samples, augmented: bool = False) -> Outputs:
        """What methods see: the last layer's input is the encoder's features, or the hidden layer.

        Args:
            augmented: has no effect, because features are of plain images.
        """
        values: Tensor = samples.inputs.values
        with torch.no_grad():
            if isinstance(self.head, Head):
                return Outputs(samples.labels, self.head.logits(values).softmax(1), values, bias=True)
            inner = self.head.inner(values)
            return Outputs(samples.labels, self.head.head(inner).softmax(1), inner, bias=True)

    def metrics(self, split: Split, report: str) -> dict[str, float]:
        """Test accuracy, and how far the optimiser of a softmax regression came.

        Args:
            report: has no effect, because only the last weights are measured.
        """
        probs = self.outputs(split.test).probs
        assert probs is not None
        metrics = {"accuracy": float((probs.argmax(1) == split.test.labels).double().mean())}
        return metrics | ({"gradient_norm": self.head.gradient_norm} if isinstance(self.head, Head) else {})

    def curves(self) -> Mapping[str, Sequence[float]]:
        return {}


@dataclass(frozen=True)
class Probe:
    """How a head is trained.

    Args:
        penalty: λ of the softmax regression; None chooses λ by the cross-entropy of noisy validation labels.
        tolerance: the gradient norm to reach, relative to the norm at zero weights.
        hidden: how a head with a hidden layer is trained; None for softmax regression.
    """

    penalty: float | None
    tolerance: float
    hidden: HiddenRecipe | None

    def train(self, split: Split, keep: np.ndarray | None, seed: int, recorder: Recorder | None = None) -> TrainedProbe:
        """One head; all samples for ``keep=None``."""
        if self.hidden is not None:
            return self._hidden(split, keep, seed, self.hidden, recorder)
        if keep is not None:
            return next(self._regressions([(split, keep)]))[0]
        path: list[tuple[Tensor, Head]] = []
        note = None if recorder is None else lambda _, logits, head: path.append((logits.half(), head))
        features = split.train.inputs
        everything = torch.ones(1, len(features), dtype=torch.bool, device=features.values.device)
        penalty = self.chosen_penalty(split)
        (head,) = fit(
            features.preconditioned(penalty),
            split.train.labels,
            everything,
            split.n_classes,
            torch.tensor([penalty]),
            self.tolerance,
            watch=note,
        )
        features.fitted["head"] = head
        if recorder is not None:
            recorder.start([1.0] * len(path))
            for logits, made in path:
                recorder.batch(torch.arange(len(features)), logits)
                recorder.moment(TrainedProbe(made))
        return TrainedProbe(head)

    def train_all(
        self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]
    ) -> Iterator[list[TrainedProbe]]:
        """As `harness.interfaces.task.Task.train_all`: the kept sets of one split are one program."""
        for _, same in groupby(wanted, key=lambda one: id(one[0].train.inputs)):  # splits that differ in labels alone
            each = [(split, keep, seed) for split, keeps, seed in same for keep in keeps]
            if self.hidden is not None or any(keep is None for _, keep, _ in each):
                for split, keep, seed in each:
                    yield [self.train(split, keep, seed)]
            else:
                yield from self._regressions([(split, keep) for split, keep, _ in each if keep is not None])

    def _regressions(self, wanted: Sequence[tuple[Split, np.ndarray]]) -> Iterator[list[TrainedProbe]]:
        """Softmax regressions on kept sets of the same features, from the base model's weights where they are known."""
        split = wanted[0][0]
        features, penalty = split.train.inputs, self.chosen_penalty(split)
        device = features.values.device
        for start in range(0, len(wanted), TOGETHER):
            some = wanted[start : start + TOGETHER]
            one = len({id(split.train.labels) for split, _ in some}) == 1
            kept = torch.from_numpy(np.stack([keep for _, keep in some])).to(device)
            heads = fit(
                features.preconditioned(penalty),
                some[0][0].train.labels if one else torch.stack([split.train.labels for split, _ in some]),
                kept,
                split.n_classes,
                torch.full((len(kept),), penalty),
                self.tolerance,
                features.fitted.get("head"),
            )
            yield [TrainedProbe(head) for head in heads]

    def chosen_penalty(self, split: Split) -> float:
        """λ, chosen once for all heads on the same features."""
        if self.penalty is not None:
            return self.penalty
        features = split.train.inputs
        if "penalty" not in features.fitted:
            features.fitted["penalty"] = _chosen(split)
        return float(features.fitted["penalty"])

    def _hidden(
        self, split: Split, keep: np.ndarray | None, seed: int, recipe: HiddenRecipe, recorder: Recorder | None
    ) -> TrainedProbe:
        features, labels = split.train.inputs, split.train.labels
        values, spectrum = features.values, features.spectrum
        scale = float(spectrum.values.mean().sqrt())
        head = HiddenHead(spectrum.mean.float(), scale, recipe.width, split.n_classes, seed).to(values.device)
        kept = torch.arange(len(values)) if keep is None else torch.from_numpy(np.flatnonzero(keep))
        if not len(kept):
            raise ValueError("a kept set is empty: there is nothing to train on")
        if recorder is not None:
            recorder.start(recipe.masses(len(kept)))
        train(
            head,
            values,
            labels,
            kept.to(values.device),
            recipe,
            seed,
            None if recorder is None else recorder.batch,
            None if recorder is None else lambda: recorder.moment(TrainedProbe(head)),
        )
        return TrainedProbe(head.eval())


TOGETHER = 32
"""Heads that are trained as one program."""


def _chosen(split: Split) -> float:
    """The penalty whose head has the lowest cross-entropy on noisy validation labels; a loose tolerance will do."""
    features, labels = split.train.inputs, split.train.labels
    keep = torch.ones(len(features), dtype=torch.bool, device=features.values.device)
    held = split.references.get("noisy_validation")
    if held is None:
        keep[::HELD_OUT] = False
        values, targets = features.values[~keep], labels[~keep]
    else:
        values, targets = held.inputs.values, held.labels
    unit = float(features.spectrum.values.mean())
    penalties = torch.from_numpy(PENALTIES) * unit
    data = features.preconditioned(float(penalties[len(penalties) // 2]))
    heads = fit(data, labels, keep.expand(len(penalties), -1), split.n_classes, penalties, CHOICE_TOLERANCE)
    losses = [float(torch.nn.functional.cross_entropy(head.logits(values), targets)) for head in heads]
    return float(penalties[int(np.argmin(losses))])


CHOICE_TOLERANCE = 1e-3
