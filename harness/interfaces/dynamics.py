"""Training dynamics: what the base model's outputs were while it trained, and a few moments of that training.

A task records its training by calling a `Recorder`; a method reads `Dynamics` and checkpoints from its view.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.interfaces.outputs import Outputs

IN_MEMORY = 2**29
"""Bytes of recorded logits beyond which they go to a file."""

CHECKPOINTS = 5
"""Moments whose model is kept."""

LARGEST = 6e4
"""Logits are cut off here, within float16's range."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The logits of all training samples at T moments of the base model's training.

    Args:
        logits: (T, n, c) float16, in memory or in a file.
        epochs: when each moment was, (T,): epochs, or steps of a full-batch training.
        learning_rates: the sum of the learning rates of the steps since the moment before, (T,).
    """

    logits: np.ndarray
    epochs: np.ndarray
    learning_rates: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    def at(self, moment: int) -> np.ndarray:
        """Logits of one moment, (n, c) float32."""
        return np.asarray(self.logits[moment], dtype=np.float32)

    def probs_at(self, moment: int) -> np.ndarray:
        """Class probabilities of one moment, (n, c) float32."""
        logits = self.at(moment)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Moment:
    """The base model at one moment of its training.

    Args:
        epoch: when it was, as in `Dynamics`.
        learning_rate: the sum of the learning rates of the steps that the moment stands for.
        outputs: the `Outputs` of a set at that moment: ``"train"``, or a reference set's name.
        module: the model of that moment as a callable of inputs.
    """

    epoch: float
    learning_rate: float
    outputs: Callable[[str], Outputs]
    module: Callable[[], Callable[..., Any]] | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """What a recorded training left; ``dynamics`` is None where samples have no class logits, such as prompts."""

    dynamics: Dynamics | None
    moments: Sequence[Moment]


class _Saved:
    """A model in a file without a name, which is closed when nobody needs the model any more."""

    def __init__(self, model: Any) -> None:
        self._file = tempfile.TemporaryFile(prefix="influence-harness-", suffix=".model")  # noqa: SIM115 - read later
        weakref.finalize(self, self._file.close)
        torch.save(model, self._file)

    def load(self) -> Any:
        self._file.seek(0)
        return torch.load(self._file, weights_only=False)  # written by this process


class Recorder:
    """Receives a base model's training; `Task.train_recorded` calls it.

        recorder.start(learning_rates)          # before training: their sum between two moments, one entry per moment
        recorder.batch(rows, logits)            # in training: logits of a batch, as the training pass computes them
        recorder.moment(model)                  # at the end of an epoch: all of its batches are in

    Args:
        n: number of training samples.
        n_classes: c.
        checkpoints: how many moments' models are kept, at equal shares of the sum of all learning rates.

    Attributes:
        seconds: what recording took, on the CPU's clock.
        as_model: makes of what `moment` is given what `Task.outputs` takes, for a task that trains by another task.
    """

    def __init__(self, n: int, n_classes: int, checkpoints: int = CHECKPOINTS) -> None:
        self.n, self.n_classes, self.checkpoints = n, n_classes, checkpoints
        self.as_model: Callable[[Any], Any] = lambda model: model
        self.seconds = 0.0
        self._moments = 0
        self._states: list[tuple[int, _Saved]] = []

    def start(
        self, learning_rates: Sequence[float], epochs: Sequence[float] | None = None, *, logits: bool = True
    ) -> None:
        """Make room for the moments.

        Args:
            learning_rates: the sum of the learning rates between the moment before and each moment, (T,).
            epochs: when the moments are, (T,); 1 to T if left out.
            logits: whether samples have class logits. Without them, only checkpoints are kept.
        """
        self._with_logits = logits
        self.learning_rates = np.asarray(learning_rates, dtype=np.float64)
        total = len(learning_rates)
        self.epochs = np.arange(1.0, total + 1) if epochs is None else np.asarray(epochs, dtype=np.float64)
        shape = (total, self.n if logits else 0, self.n_classes)
        if 2 * np.prod(shape, dtype=np.float64) <= IN_MEMORY:
            self.logits: np.ndarray = np.zeros(shape, dtype=np.float16)
        else:
            with tempfile.TemporaryFile(prefix="influence-harness-", suffix=".logits") as file:
                self.logits = np.memmap(file, dtype=np.float16, mode="w+", shape=shape)  # has its own hold of the file
        self._kept = _at_equal_shares(self.learning_rates, self.checkpoints)
        self._current: Tensor | None = None

    def batch(self, rows: Tensor, logits: Tensor) -> None:
        """Keep a batch's logits.

        Args:
            rows: positions of the samples in the training set, (b,) int64.
            logits: (b, c), or (b, 1) for the one output of a sigmoid; other numbers of columns raise a ValueError.
        """
        started = time.perf_counter()
        if self._current is None:
            self._current = torch.zeros(self.n, self.n_classes, dtype=torch.float16, device=logits.device)
        values = logits.detach()
        if values.shape[1] == 1 and self.n_classes == 2:
            values = torch.cat([torch.zeros_like(values), values], dim=1)
        if values.shape[1] != self.n_classes:
            raise ValueError(f"recorded logits have {values.shape[1]} columns, and there are {self.n_classes} classes")
        self._current[rows.to(values.device)] = values.clamp(-LARGEST, LARGEST).to(torch.float16)
        self.seconds += time.perf_counter() - started

    def moment(self, model: Any, logits: Callable[[], Tensor] | None = None) -> None:
        """End a moment.

        Args:
            model: as `Task.outputs` takes it; copied if this moment is a checkpoint.
            logits: computes the logits of all samples in their order, where no batches were given.
        """
        started = time.perf_counter()
        if logits is not None:
            spent = self.seconds
            self.batch(torch.arange(self.n), logits())
            self.seconds = spent  # it is within the time taken here
        if self._current is not None:
            self.logits[self._moments] = self._current.cpu().numpy()
        elif self._with_logits:
            raise ValueError("a moment has no logits: call batch before, or give logits")
        if self._moments in self._kept:
            self._states.append((self._moments, _Saved(self.as_model(model))))
        self._moments += 1
        self.seconds += time.perf_counter() - started

    def recording(
        self, outputs: Callable[[Any, str], Outputs], module: Callable[[Any], Callable[..., Any]] | None = None
    ) -> Recording:
        """What was recorded.

        Args:
            outputs: of a model and a set's name.
            module: a model as a callable of inputs.

        Raises:
            ValueError: the training had another number of moments than it had announced.
        """
        if self._moments != len(self.learning_rates):
            raise ValueError(f"{self._moments} moments were recorded of {len(self.learning_rates)}")
        ends = np.cumsum(self.learning_rates)[self._kept]
        shares = np.diff(ends, prepend=0.0)

        def outputs_at(saved: _Saved, name: str) -> Outputs:
            return outputs(saved.load(), name)

        def module_at(saved: _Saved) -> Callable[..., Any]:
            assert module is not None
            return module(saved.load())

        moments = [
            Moment(
                float(self.epochs[k]),
                float(share),
                partial(outputs_at, saved),
                None if module is None else partial(module_at, saved),
            )
            for (k, saved), share in zip(self._states, shares, strict=True)
        ]
        dynamics = Dynamics(self.logits, self.epochs, self.learning_rates) if self._with_logits else None
        return Recording(dynamics, moments)


def _at_equal_shares(masses: np.ndarray, count: int) -> list[int]:
    """Positions at which the running sum reaches 1/count, 2/count, … of the total; the last one among them."""
    total = np.cumsum(masses)
    if not total[-1] > 0:
        return [len(masses) - 1]
    wanted = total[-1] * np.arange(1, count + 1) / count
    positions = np.searchsorted(total, wanted * (1 - 1e-9)).clip(max=len(masses) - 1)
    return [position for position, _ in itertools.groupby(positions.tolist())]
