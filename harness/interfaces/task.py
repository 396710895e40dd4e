"""The interface of a task: `load`, `train`, `outputs` and `evaluate`. The rest of the class is optional."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.data.files import Download
from harness.errors import Unsupported
from harness.interfaces.params import option
from harness.interfaces.split import Samples, Split

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from harness.interfaces.view import View


__all__ = ["Samples", "Split", "Task"]


@dataclass(frozen=True)
class Task(ABC):
    """One benchmark problem: data, a model, how it is trained, and a metric.

    Your own task gives a name and four functions: `load`, `train`, `outputs` and `evaluate`. Everything after these
    four functions is optional. Dataclass fields are the task's parameters. The defaults are the values of the fair
    protocol.

    Args:
        budget: share of the training samples that is flagged and removed, in [0, 1).
        retrain: train models without the flagged samples. With ``no``, only the base model is trained and only
            detection is measured.
        repair: what happens to the flagged samples before a model is trained again: ``remove`` them, or ``relabel``
            them with the class that is most probable out of sample (by cross-validation).

    Raises:
        ValueError: a parameter is out of its range.
    """

    name: ClassVar[str]

    budget: float = 0.1
    retrain: bool = option(True)
    repair: Literal["remove", "relabel"] = option("remove")

    def __post_init__(self) -> None:
        if not 0 <= self.budget < 1:
            raise ValueError(f"budget={self.budget} must be a share in [0, 1)")

    @abstractmethod
    def load(self, seed: int) -> tuple[Split, np.ndarray | None]:
        """The data of one seed, and the true labels of the training samples, (n,), or None if they are unknown."""

    @abstractmethod
    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        """A trained model, of any type.

        Args:
            split: as from `load`, on the run's device.
            keep: None for the base model, which learns all training samples; otherwise (n,) bool, and the model learns
                the kept samples alone.
            seed: for initial weights and the order of batches; the same for all methods of one run's seed.
        """

    @abstractmethod
    def outputs(self, model: Any, samples: Samples) -> Outputs:
        """The model's class probabilities and last-layer inputs for some samples, or per-sample gradients instead.

        The view of every method is built from these outputs; see `view`.
        """

    @abstractmethod
    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        """Test metrics as fractions; ``accuracy`` is the reported one.

        For a task without test labels or test samples, return an empty dictionary. Then no model is retrained.
        """

    # Optional: what reports and lists say of the task.

    title: ClassVar[str] = ""
    """Heading in reports; the name if left out."""

    source: ClassVar[str] = ""
    """Where the task comes from (paper, section)."""

    version: ClassVar[int] = 1
    """Raise it when results change though the code of the task's modules does not."""

    named_only: ClassVar[bool] = False
    """Whether ``all`` and globs leave the task out, because it needs a parameter."""

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Conformance checks that the task is known to fail, by name, with the reason."""

    @property
    def full_title(self) -> str:
        """The heading in reports. A task can add what a parameter names, such as a pretrained encoder."""
        return self.title or self.name

    # Optional: parameter values by size and by protocol.

    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Parameter values by protocol, where they differ from the defaults."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Parameter values by preset (``smoke``, ``fast``, ``full``), where they differ from the defaults. A preset wins
    over the protocol, so it sets sizes and lengths only."""

    after_training: ClassVar[frozenset[str]] = frozenset({"budget", "retrain", "repair"})
    """Parameters that change neither data nor model nor outputs. Cells that differ in these parameters alone share
    one base model and one view."""

    of_outputs: ClassVar[frozenset[str]] = frozenset()
    """Parameters that change outputs, and neither data nor training. Cells that differ in these share one base model,
    and each value has a view of its own."""

    method_params: ClassVar[Mapping[str, Any]] = {}
    """Values for parameters of methods: every method with a parameter of such a name gets the value instead of a
    protocol's."""

    # Optional: data that has to be there.

    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that the task imports; a missing one makes the task unavailable."""

    needs: ClassVar[str] = ""
    """What has to be there before the task runs, and how to get it; empty if nothing."""

    downloads: ClassVar[tuple[Download, ...]] = ()
    """Published files that ``data fetch`` can bring."""

    def check(self) -> None:  # noqa: B027 - optional
        """Raise a `RequestError` if data that the task needs is missing or damaged; called before anything runs."""

    def data_version(self) -> str:
        """A hash of the user's own data, part of a cell's key. Empty if parameters and code determine the data."""
        return ""

    # Optional: training of many models.

    most_retrainings: ClassVar[int] = 20_000
    """How many models one method's scores may cost; a method that wants more is skipped with this reason."""

    seeds_together: ClassVar[bool] = False
    """Whether a run loads all seeds of the task at once and trains their models by one `train_all`."""

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[Any]]:
        """The models of several (split, kept sets, seed), in order. Each list holds the models trained together.

        A kept set is None for a base model. By default, models are trained one after another by `train`; a task of
        small models can train many in one program.
        """
        for split, keeps, seed in wanted:
            for keep in keeps:
                yield [self.train(split, keep, seed)]

    # Optional: how out-of-sample probabilities come about.

    def assign_folds(self, split: Split, seed: int) -> np.ndarray:
        """The fold of each training sample in cross-validation, (n,), from 0. By default, five folds at random."""
        return np.random.default_rng(seed).permutation(len(split.train)) % 5

    def out_of_sample(self, split: Split) -> np.ndarray | None:
        """Out-of-sample probabilities (n, c) that came with the data. By default None: models are trained."""
        return None

    # Optional: what methods see beside the outputs.

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> Any:
        """The base model, the same as `train` gives for ``keep=None``, with its training recorded.

        Args:
            recorder: receives the logits of all training samples while the model trains, and a few models on the way.

        Raises:
            Unsupported: the task does not record its training.
        """
        raise Unsupported(f"{self.name} does not record its training")

    def module(self, model: Any, split: Split) -> Callable[..., Any]:
        """A trained model as a callable from inputs to logits, in eval mode; a torch module where there is one.

        Raises:
            Unsupported: the task gives no model to methods.
        """
        raise Unsupported(f"{self.name} gives no model to methods")

    def l2_penalty(self, model: Any, split: Split) -> float:
        """λ of the L2 penalty (λ/2)|θ|² in the training loss, which is a mean over samples.

        Raises:
            Unsupported: the training loss has no such penalty.
        """
        raise Unsupported(f"{self.name} names no L2 penalty of its training loss")

    def module_inputs(self, samples: Samples) -> Any:
        """The inputs of samples as `module` takes them: a tensor, a tuple or a mapping of tensors, (n, …) each."""
        return samples.inputs

    def encoder_features(self, samples: Samples) -> Tensor:
        """Features of samples by a frozen, pretrained encoder, (n, d).

        Raises:
            Unsupported: the task has no encoder.
        """
        raise Unsupported(f"{self.name} has no frozen encoder")

    # Optional: further results.

    def training_outputs(self, model: Any, samples: Samples) -> Outputs:
        """The outputs of the training samples that methods see; a task may read them on augmented inputs."""
        return self.outputs(model, samples)

    def curves(self, model: Any, split: Split) -> Mapping[str, Sequence[float]]:
        """Metrics over the steps of a model's training, from the first, as ``{"accuracy_by_epoch": [0.7, 0.8]}``.

        The names must differ from the names in `evaluate`. The tidy table has one row per step. Empty by default.
        """
        return {}

    # Optional: what is known of single samples.

    same_samples: ClassVar[bool] = False
    """Whether every seed has the same training samples, so that scores of several seeds can be averaged."""

    attributes: ClassVar[bool] = False
    """Whether this is an attribution task. Methods are then asked for `Method.attribute` instead of `Method.score`,
    with test samples as the reference set ``test``, and nothing is trimmed. The metric is how far the training
    samples that a method finds influential for a test sample are of the test sample's class. For the check against
    retraining, see `harness.interfaces.lds_task.LdsTask`."""

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        """Training samples as uint8 images (k, h, w, 3), for figures.

        Raises:
            Unsupported: the task's samples are no images.
        """
        raise Unsupported(f"the samples of {self.name} are no images")

    def texts(self, seed: int) -> Mapping[str, list[str]]:
        """The samples of `load` as texts, ``{"train": [...], "test": [...]}``, for reports. No model is needed.

        Raises:
            Unsupported: the task's samples are no texts.
        """
        raise Unsupported(f"the samples of {self.name} are no texts")

    def sample_names(self, seed: int) -> list[str] | None:
        """Names of the training samples, such as file names, for lists of suspects; None where positions are names."""
        return None

    def class_names(self) -> list[str] | None:
        """The classes' names, c of them; None where classes are numbers."""
        return None

    # Given by the harness.

    def seen(self, model: Any, split: Split, samples: Samples) -> Outputs:
        """What methods see of samples of the split: `training_outputs` or `outputs`."""
        return self.training_outputs(model, samples) if samples is split.train else self.outputs(model, samples)

    def view(self, model: Any, split: Split) -> View:
        """What methods see of a trained model, built from `outputs`. A task does not override `view`."""
        from harness.interfaces.trained import Model
        from harness.interfaces.view import View

        references = {name: self.module_inputs(samples) for name, samples in split.references.items()}
        module, encoder = partial(self.module, model, split), partial(self.encoder_features, split.train)
        penalty = partial(self.l2_penalty, model, split)
        return View(
            split.train.labels.cpu().numpy(),
            partial(self.seen, model, split, split.train),
            {name: partial(self.seen, model, split, samples) for name, samples in split.references.items()},
            device=split.device,
            classes=split.train.classes,
            model=Model(self.module_inputs(split.train), references, module, encoder, penalty),
        )
