"""What a view offers of the training: inputs, model, dynamics, checkpoints, and models trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.dynamics import Dynamics, Recording
from harness.interfaces.extraction import Extraction
from harness.interfaces.outputs import Outputs

Retrain = Callable[[np.ndarray, str], np.ndarray]
Retrained = Callable[[np.ndarray], Iterator[np.ndarray]]


class Trained(Extraction):
    """The part of a view that needs more than the trained model's outputs.

    Args:
        device: as for `harness.interfaces.view.View`, like all arguments.
    """

    def __init__(
        self,
        device: str,
        retrain: Retrain | None,
        retrained: Retrained | None,
        out_of_sample: Callable[[], np.ndarray] | None,
        recording: Callable[[], Recording] | None,
        inputs: Any,
        reference_inputs: Mapping[str, Any] | None,
        model: Callable[[], Callable[..., Any]] | None,
    ) -> None:
        super().__init__(device)
        self._retrain, self._retrained = retrain, retrained
        self._out_of_sample = out_of_sample
        self._recording = recording
        self._inputs, self._reference_inputs = inputs, dict(reference_inputs or {})
        self._model = model
        self._labels: np.ndarray
        self._references: Mapping[str, Callable[[], Outputs]]

    @property
    def inputs(self) -> Any:
        """The training inputs as the model takes them: a tensor, or rows; not to be written to.

        Raises:
            Unsupported: only the model's outputs are known.
        """
        if self._inputs is None:
            raise Unsupported("the inputs are not known here, only the model's outputs")
        self._asked.add("inputs")
        return self._inputs

    @property
    def model(self) -> Callable[..., Any]:
        """The trained model in eval mode, from inputs to logits (n, c); a torch module where the task has one.

        Raises:
            Unsupported: the task gives no model.
        """
        if self._model is None:
            raise Unsupported("there is no model here, only its outputs")
        return cast("Callable[..., Any]", self._get("model", self._model))

    @property
    def dynamics(self) -> Dynamics:
        """The logits of all training samples while the base model trained.

        Raises:
            Unsupported: the task does not record its training.
        """
        dynamics: Dynamics = self._get("dynamics", lambda: self._recorded().dynamics)
        return dynamics

    def _recorded(self) -> Recording:
        if self._recording is None:
            raise Unsupported("training dynamics need a task that records its training")
        return cast(Recording, self._get("recording", self._recording))

    @property
    def out_of_sample_probs(self) -> np.ndarray:
        """Probabilities of each sample from models trained without it (cross-validation), (n, c) float64.

        Raises:
            Unsupported: the view comes from arrays, so nothing can be retrained.
        """
        if self._out_of_sample is None:
            raise Unsupported("out-of-sample probabilities need a task that can retrain its model")
        return np.asarray(self._get("out_of_sample_probs", self._out_of_sample)).copy()

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
        if self._retrain is None:
            raise Unsupported("retraining needs a task; a view of arrays has no model to train")
        if reference != "train" and reference not in self._references:
            raise Unsupported(f"there is no reference set {reference!r} here")
        self._asked |= {"retraining", f"reference:{reference}"}
        return self._retrain(keeps, reference)

    def retrained_probs(self, keeps: np.ndarray) -> Iterator[np.ndarray]:
        """Class probabilities of all training samples by models retrained on each kept set, (n, c) per set, in order.

        Args:
            keeps: (m, n) bool, one kept set per row.

        Raises:
            Unsupported: the view comes from arrays, or the task allows fewer retrainings.
        """
        if self._retrained is None:
            raise Unsupported("retraining needs a task; a view of arrays has no model to train")
        self._asked.add("retraining")
        return self._retrained(keeps)
