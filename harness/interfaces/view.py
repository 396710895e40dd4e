"""A view: all that a method may see of a trained model and its data. Start here to write a method.

    def score(self, view: View) -> np.ndarray:          # (n,), higher = more suspicious
        view.labels                                     # the given labels, (n,) int; maybe wrong
        view.probs, view.predictions                    # class probabilities (n, c) and their argmax (n,)
        view.features                                   # the last layer's input, (n, d)
        view.gradients                                  # per-sample gradients, as blocks of operators, one per layer
        view.gradients_of("last")                       # gradients of the last layer, or of layers matching a glob
        view.reference("validation").gradients          # gradients of a reference set: clean validation samples,
                                                        #   "noisy_validation", or "train" itself
        view.out_of_sample_probs                        # probabilities by cross-validated retraining, (n, c)
        view.inputs, view.model                         # the training inputs, and the trained model as a callable
        view.dynamics                                   # logits of all samples while the model trained, (T, n, c)
        view.checkpoints                                # a few moments of the training, each with a view
        view.encoder_features                           # features of the task's frozen encoder, if any, (n, d)
        view.penalty                                    # λ of the L2 penalty in the training loss, if any
        view.neighbours(10)                             # the nearest training samples by features, and similarities
        view.classes                                    # class of each training sample, (n,), on attribution tasks
        view.retrain(keeps, "validation")               # reference loss of models retrained without some samples
        view.retrained_losses(keeps, "validation")      # the same by reference sample, (m, n_reference)
        view.retrained(keeps)                           # views of such models, one by one
        view.rng                                        # the method's own randomness, seeded
        view.health["iterations"] = 12                  # numbers worth keeping beside the scores

Each part is computed on first use, once for all methods of a (task, seed), and timed apart from the method's own
work. No part says which labels are truly wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.gradients.gradients import Gradients
from harness.interfaces.checked import checked_blocks, checked_like, checked_outputs, checked_reference
from harness.interfaces.dynamics import Moment
from harness.interfaces.neighbours import Neighbours, nearest
from harness.interfaces.outputs import Outputs, Reference
from harness.interfaces.trained import Model, Trained, Training


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The base model at one moment of its training, with a view of that moment; numbers as in `Moment`."""

    epoch: float
    learning_rate: float
    view: View


class View(Trained):
    """What a method sees; see the module's text for its parts.

    Args:
        labels: given labels of the training samples, (n,).
        train: computes the training samples' `Outputs`.
        references: computes the `Outputs` of each reference set by name.
        training: what is offered where models can be trained.
        model: the trained model, and the inputs it takes.
        seed: seeds the method's own randomness.
        device: ``"cpu"`` or ``"cuda:0"``, for timing.
        classes: the class of each training sample, (n,), on attribution tasks.
    """

    def __init__(
        self,
        labels: Any,
        train: Callable[[], Outputs],
        references: Mapping[str, Callable[[], Outputs]] | None = None,
        *,
        training: Training | None = None,
        model: Model | None = None,
        seed: int = 0,
        device: str = "cpu",
        classes: np.ndarray | None = None,
    ) -> None:
        super().__init__(device, model or Model(), training or Training())
        self._labels = np.asarray(labels)
        self._train = train
        self._references = dict(references or {})
        self._classes = classes
        self.seed = seed
        self.health: dict[str, Any] = {}

    def fresh(self, seed: int, training: Training | None = None) -> View:
        """A view for another method with the same shared parts, a new seed, empty health and no recorded use.

        Args:
            training: what is offered where models can be trained; None for what this view offers.
        """
        view = View(
            self._labels,
            self._train,
            self._references,
            training=training or self._training,
            model=self._model,
            seed=seed,
            device=self.device,
            classes=self._classes,
        )
        return view._shared(self)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self._labels)

    @property
    def labels(self) -> np.ndarray:
        """Given labels, (n,) int64; some may be wrong."""
        self._asked.add("labels")
        return self._labels.copy()

    @property
    def classes(self) -> np.ndarray:
        """The class of each training sample on attribution tasks, (n,) int64. No gradient depends on the classes.

        Raises:
            Unsupported: the samples have no classes apart from their labels.
        """
        if self._classes is None:
            raise Unsupported("the samples here are of no classes apart from their labels")
        self._asked.add("classes")
        return self._classes.copy()

    @property
    def probs(self) -> np.ndarray:
        """The model's class probabilities of the training samples, (n, c) float64."""
        return np.asarray(self._get("probs", lambda: self._outputs().class_probs())).copy()

    @property
    def predictions(self) -> np.ndarray:
        """The model's predicted labels, (n,)."""
        return np.asarray(self.probs.argmax(1))

    @property
    def features(self) -> Tensor:
        """The last layer's input, (n, d).

        Raises:
            Unsupported: this view has dense gradient blocks only.
        """
        features = self._get("features", lambda: self._outputs().features)
        if features is None:
            raise Unsupported("this view has no last-layer features")
        return torch.as_tensor(features)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """A few moments of the base model's training, the last one among them.

        Raises:
            Unsupported: the task does not record its training.
        """
        moments = self._get("checkpoints", lambda: self._recorded().moments)
        return tuple(self._at(k, moment) for k, moment in enumerate(moments))

    def _at(self, k: int, moment: Moment) -> Checkpoint:
        outputs = {name: partial(moment.outputs, name) for name in self._references}
        model = replace(self._model, module=moment.module)
        view = View(self._labels, partial(moment.outputs, "train"), outputs, model=model, device=self.device)
        return Checkpoint(moment.epoch, moment.learning_rate, view._shared(self, f"checkpoint {k}/"))

    def neighbours(self, k: int, of: Literal["features", "encoder"] = "features") -> Neighbours:
        """For each training sample the k others whose features are most alike, by cosine similarity.

        Args:
            of: the trained model's features, or those of the task's frozen encoder.

        Raises:
            Unsupported: this view has no such features, or fewer than k other samples.
        """
        features = partial(getattr, self, "features" if of == "features" else "encoder_features")
        neighbours: Neighbours = self._get(f"{k} neighbours of {of}", lambda: nearest(features(), k))
        return neighbours

    @property
    def gradients(self) -> Gradients:
        """Per-sample gradients of the training loss, in all layers."""
        return self.gradients_of("all")

    def gradients_of(self, layers: str) -> Gradients:
        """Per-sample gradients of the training loss in some layers.

        Args:
            layers: ``all``; ``last``, the last layer as the task defines it (all blocks, if the view was made from
                blocks); or a glob over the block names.

        Raises:
            Unsupported: no block has such a name.
        """
        return self._layers("", self._outputs, layers)

    def _layers(self, whose: str, outputs: Callable[[], Outputs], layers: str) -> Gradients:
        if layers == "last" and outputs().layered:
            last: Gradients = self._get(f"last_layer{whose}", lambda: outputs().last_layer())
            return last
        gradients: Gradients = self._get(f"gradients{whose}", lambda: outputs().gradients())
        return gradients if layers in ("all", "last") else gradients.chosen(layers)

    def reference(self, name: str, layers: str = "all") -> Reference:
        """A reference set: ``"train"`` (the training samples themselves) or one that the task offers.

        Args:
            name: the name of the reference set.
            layers: the layers whose gradients are returned; see `gradients_of`.

        Raises:
            Unsupported: the task has no such set.
        """
        if name == "train":
            own = partial(self.gradients_of, layers)
            return Reference(own, self.labels, self._model.inputs, lambda: self._outputs().features)
        if name not in self._references:
            offered = ", ".join(["train", *self._references])
            raise Unsupported(f"there is no reference set {name!r} here; there is: {offered}")
        outputs = partial(self._reference_outputs, name)
        gradients = partial(self._layers, f":{name}", outputs, layers)
        labels, inputs = outputs().labels.cpu().numpy().copy(), self._model.reference_inputs.get(name)
        return Reference(gradients, labels, inputs, lambda: outputs().features)

    @property
    def rng(self) -> np.random.Generator:
        """A random generator from the method's seed. Every access gives a new generator in its first state."""
        return np.random.default_rng(self.seed)

    def computed_outputs(self) -> Outputs | None:
        """The training samples' `Outputs`, for the harness. None if no method has asked for a part that needs it."""
        return self._parts.values.get("outputs")

    def outputs(self, name: str = "train") -> Outputs:
        """The raw outputs of a set, for the harness; methods read the parts above."""
        self._asked |= {"labels", "probs", "features"}
        return self._outputs() if name == "train" else self._reference_outputs(name)

    def _outputs(self) -> Outputs:
        return cast(Outputs, self._get("outputs", self._train))

    def _reference_outputs(self, name: str) -> Outputs:
        outputs: Outputs = self._get(f"reference:{name}", self._references[name])
        return outputs

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        probs: Any,
        labels: Any,
        reference_features: Any = None,
        reference_probs: Any = None,
        reference_labels: Any = None,
        *,
        bias: bool = False,
        seed: int = 0,
    ) -> View:
        """A view of a last layer from arrays or tensors; the ``reference_*`` arrays are the set ``"validation"``.

        Args:
            features: the last layer's input h, (n, d); None for methods that look at probabilities alone.
            probs: class probabilities (n, c); (n,) or (n, 1) for one sigmoid output.
            labels: given labels, (n,) integers in 0 … c − 1.
            bias: whether the last layer has a bias, which then belongs to the gradient.

        Raises:
            RequestError: arrays that do not fit each other, are not finite, or are no probabilities.
        """
        train = checked_outputs("", features, probs, labels, bias)
        arrays = (reference_features, reference_probs, reference_labels)
        absent = all(array is None for array in arrays)
        return cls._of(train, None if absent else checked_reference(train, *arrays, bias), seed)

    @classmethod
    def from_blocks(
        cls,
        blocks: Mapping[str, Any],
        reference_blocks: Mapping[str, Any] | None = None,
        labels: Any = None,
        *,
        seed: int = 0,
    ) -> View:
        """A view of dense per-sample gradients, (n, …) by layer; ``reference_blocks`` are the set ``"validation"``.

        Raises:
            RequestError: no block, blocks of different lengths, or reference blocks of other names or sizes.
        """
        train = checked_blocks("", blocks, labels)
        return cls._of(train, None if reference_blocks is None else checked_like(train, reference_blocks), seed)

    @classmethod
    def _of(cls, train: Outputs, validation: Outputs | None, seed: int) -> View:
        references = {} if validation is None else {"validation": lambda: validation}
        return cls(train.labels.cpu().numpy(), lambda: train, references, seed=seed, device=train.device)
