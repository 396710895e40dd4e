"""What a view offers of the training: inputs, model, dynamics, checkpoints, and models trained again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, cast

import numpy as np
from torch import Tensor

from harness.errors import Unsupported
from harness.interfaces.clock import timed
from harness.interfaces.dynamics import Dynamics, Recording
from harness.interfaces.extraction import Extraction
from harness.interfaces.outputs import Outputs


@dataclass(frozen=True, eq=False)
class Training:
    """What a view offers where models can be trained. An entry is None where it is not offered.

    Args:
        losses: ``(keeps (m, n) bool, reference) -> (m, n_reference)`` losses of the reference samples under models
            retrained on kept sets.
        views: ``(keeps (m, n) bool) -> m views`` of models retrained on kept sets, with all training samples.
        out_of_sample: ``() -> (n, c)`` probabilities by cross-validation; with ``(keep (n,) bool)``, of models trained
            on kept samples alone.
        recording: records the base model's training.
    """

    losses: Callable[[np.ndarray, str], np.ndarray] | None = None
    views: Callable[[np.ndarray], Iterator[Any]] | None = None
    out_of_sample: Callable[..., np.ndarray] | None = None
    recording: Callable[[], Recording] | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """The trained model and what it takes. An entry is None where only the model's outputs are known.

    Args:
        inputs: the training inputs, as the model takes them.
        reference_inputs: the inputs of each reference set by name.
        module: gives the trained model as a callable of inputs.
        encoder: computes the training samples' features by the task's frozen encoder, (n, d).
        penalty: gives λ of the L2 penalty in the training loss.
    """

    inputs: Any = None
    reference_inputs: Mapping[str, Any] = field(default_factory=dict)
    module: Callable[[], Callable[..., Any]] | None = None
    encoder: Callable[[], Tensor] | None = None
    penalty: Callable[[], float] | None = None


class Trained(Extraction):
    """The part of a view that needs more than the trained model's outputs.

    Args:
        device: as for `harness.interfaces.view.View`, like all arguments.

    Attributes:
        retraining_seconds: what retraining for this view's method took. Parts of other views are not in it.
    """

    def __init__(self, device: str, model: Model, training: Training) -> None:
        super().__init__(device)
        self._model, self._training = model, training
        self.retraining_seconds = 0.0
        self._labels: np.ndarray
        self._references: Mapping[str, Callable[[], Outputs]]

    @property
    def inputs(self) -> Any:
        """The training inputs as the model takes them: a tensor, or rows; not to be written to.

        Raises:
            Unsupported: only the model's outputs are known.
        """
        if self._model.inputs is None:
            raise Unsupported("the inputs are not known here, only the model's outputs")
        self._asked.add("inputs")
        return self._model.inputs

    @property
    def model(self) -> Callable[..., Any]:
        """The trained model in eval mode, from inputs to logits (n, c); a torch module where the task has one.

        Raises:
            Unsupported: the task gives no model.
        """
        if self._model.module is None:
            raise Unsupported("there is no model here, only its outputs")
        return cast("Callable[..., Any]", self._get("model", self._model.module))

    @property
    def penalty(self) -> float:
        """λ of the L2 penalty (λ/2)|θ|² in the training loss, which is a mean over samples; positive.

        Raises:
            Unsupported: the training loss has no such penalty, or its size is not known here.
        """
        if self._model.penalty is None:
            raise Unsupported("the training loss is not known here, so neither is its L2 penalty")
        penalty = float(self._model.penalty())
        if not penalty > 0:
            raise Unsupported("the training loss has no L2 penalty here")
        return penalty

    @property
    def encoder_features(self) -> Tensor:
        """The training samples' features by the task's frozen, pretrained encoder, (n, d).

        Raises:
            Unsupported: the task has no encoder.
        """
        if self._model.encoder is None:
            raise Unsupported("there is no frozen encoder here")
        return cast(Tensor, self._get("encoder_features", self._model.encoder))

    @property
    def dynamics(self) -> Dynamics:
        """The logits of all training samples while the base model trained.

        Raises:
            Unsupported: the task does not record its training, or its samples have no class logits.
        """
        dynamics: Dynamics | None = self._get("dynamics", lambda: self._recorded().dynamics)
        if dynamics is None:
            raise Unsupported("the samples here have no class logits whose course could be recorded")
        return dynamics

    def _recorded(self) -> Recording:
        if self._training.recording is None:
            raise Unsupported("training dynamics need a task that records its training")
        return cast(Recording, self._get("recording", self._training.recording))

    @property
    def out_of_sample_probs(self) -> np.ndarray:
        """Probabilities of each sample from models trained without it (cross-validation), (n, c) float64.

        Raises:
            Unsupported: the view comes from arrays, so nothing can be retrained.
        """
        return self._cross_validated("out_of_sample_probs", None)

    def out_of_sample_without(self, dropped: np.ndarray) -> np.ndarray:
        """The same for models that also train without some samples; the folds are the same, (n, c) float64.

        Args:
            dropped: the samples that no model trains on, (n,) bool.

        Raises:
            Unsupported: as for `out_of_sample_probs`.
        """
        which = hashlib.blake2b(np.packbits(dropped).tobytes(), digest_size=8).hexdigest()
        self._asked.add("out_of_sample_probs")
        return self._cross_validated(f"out_of_sample_probs without {which}", ~dropped)

    def _cross_validated(self, part: str, keep: np.ndarray | None) -> np.ndarray:
        if self._training.out_of_sample is None:
            raise Unsupported("out-of-sample probabilities need a task that can retrain its model")
        compute = self._training.out_of_sample
        return np.asarray(self._get(part, compute if keep is None else partial(compute, keep))).copy()

    def retrain(self, keeps: np.ndarray, reference: str) -> np.ndarray:
        """Mean reference loss of models retrained from the same start on each kept set.

        Args:
            keeps: (m, n) bool, one kept set per row.
            reference: the name of a reference set, as for the method `reference`.

        Returns:
            (m,) losses, float64.

        Raises:
            Unsupported: the view comes from arrays, or there is no such reference set.
        """
        return np.array([losses.mean() for losses in self.retrained_losses(keeps, reference)])

    def retrained_losses(self, keeps: np.ndarray, reference: str) -> np.ndarray:
        """The loss of each reference sample under models retrained from the same start on each kept set.

        Args:
            keeps, reference: as for `retrain`.

        Returns:
            (m, n_reference) losses, float64.

        Raises:
            Unsupported: as for `retrain`.
        """
        if self._training.losses is None:
            raise Unsupported("retraining needs a task; a view of arrays has no model to train")
        if reference != "train" and reference not in self._references:
            raise Unsupported(f"there is no reference set {reference!r} here")
        self._asked |= {"retraining", f"reference:{reference}"}
        with self._retraining():
            return self._training.losses(keeps, reference)

    def retrained(self, keeps: np.ndarray) -> Iterator[Self]:
        """Views of models retrained from the same start on each kept set, in order; each shows all training samples.

        Args:
            keeps: (m, n) bool, one kept set per row.

        Raises:
            Unsupported: the view comes from arrays, or the task allows fewer retrainings.
        """
        if self._training.views is None:
            raise Unsupported("retraining needs a task; a view of arrays has no model to train")
        self._asked.add("retraining")
        views = self._training.views(keeps)
        while True:
            with self._retraining():
                view = next(views, None)
            if view is None:
                return
            yield view

    @contextmanager
    def _retraining(self) -> Iterator[None]:
        with timed(self.device) as watch:
            yield
        self.retraining_seconds += watch.seconds
