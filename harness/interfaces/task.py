"""The interface of a task: data, model, recipe and metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.data.files import Download
from harness.errors import Unsupported
from harness.interfaces.params import option

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.view import View


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs, (n, …), or None where only a model's outputs are known, and given labels, (n,) int64.

    Args:
        classes: of an attribution task, what kind each sample is of, (n,) int64; no model learns it.
    """

    inputs: Any
    labels: Tensor
    classes: np.ndarray | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> Samples:
        inputs = None if self.inputs is None else self.inputs.to(device)
        return Samples(inputs, self.labels.to(device), classes=self.classes)


@dataclass(frozen=True, eq=False)
class Split:
    """A task's data as models and methods see it: given labels only.

    Args:
        train: what the model is trained on and methods score.
        test: what the reported metric is measured on.
        references: further labelled sets that no model is trained on (``"validation"``: clean labels;
            ``"noisy_validation"``: the same samples with labels as noisy as the training set's).
        n_classes: c.
    """

    train: Samples
    test: Samples
    references: Mapping[str, Samples]
    n_classes: int
    device: str = "cpu"

    def to(self, device: str) -> Split:
        """The same data on a device."""
        references = {name: samples.to(device) for name, samples in self.references.items()}
        return replace(
            self, train=self.train.to(device), test=self.test.to(device), references=references, device=device
        )


@dataclass(frozen=True)
class Task(ABC):
    """One benchmark problem. Its dataclass fields are its parameters; their defaults are the fair protocol's.

    Attributes:
        name, title, source, requires, protocols, version, expected_failures: as for a method.
        presets: parameter values by size, ``smoke``, ``fast``, ``paper``, where they differ from the defaults.
            A preset wins over the protocol, so it sets sizes and lengths only.
        needs: what has to be there before it runs, and how to get it; empty if nothing.
        downloads: published files that `data fetch` can bring.
        after_training: parameters that change neither data nor model nor view, as the budget; cells that differ in
            these alone share them all.
        named_only: True for one that `all` and globs leave out, as it needs a parameter.
        same_samples: True where every seed has the same training samples, so that scores of several seeds can be
            put together.
        attributes: True for an attribution task: methods are asked for `attribute` instead of `score`, with the test
            samples as the reference set ``test``, and nothing is trimmed. It is measured how far the training samples
            that a method finds influential for a test sample are of its class.
        method_params: values that parameters of this name take in every method that has them, instead of a
            protocol's.
        most_retrainings: how many models a method's scores may cost; methods that want more are told so.
        seeds_together: whether a run loads all seeds of the task at once and trains their models by `train_all`.

    Args:
        budget: share of the training samples that is flagged and removed.
        retrain: train models without them; ``no`` measures detection alone, for which there is the base model.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    requires: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    needs: ClassVar[str] = ""
    downloads: ClassVar[tuple[Download, ...]] = ()
    after_training: ClassVar[frozenset[str]] = frozenset({"budget", "retrain"})
    named_only: ClassVar[bool] = False
    same_samples: ClassVar[bool] = False
    attributes: ClassVar[bool] = False
    method_params: ClassVar[Mapping[str, Any]] = {}
    most_retrainings: ClassVar[int] = 20_000
    seeds_together: ClassVar[bool] = False
    version: ClassVar[int] = 1
    expected_failures: ClassVar[Mapping[str, str]] = {}

    budget: float = 0.1
    retrain: bool = option(True)

    def __post_init__(self) -> None:
        if not 0 <= self.budget < 1:
            raise ValueError(f"budget={self.budget} must be a share in [0, 1)")

    def check(self) -> None:  # noqa: B027 - optional
        """Raise a `RequestError` if data that the task needs is missing or damaged; called before anything runs."""

    def data_version(self) -> str:
        """What tells this data from other data of the same parameters, as a hash of the user's own file; it is part of
        a cell's key. Empty where the parameters and the code say it all."""
        return ""

    @abstractmethod
    def load(self, seed: int) -> tuple[Split, np.ndarray | None]:
        """The data of one seed, and apart from it the true labels of the training samples, (n,), where known."""

    @abstractmethod
    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        """A model: the base model on all training samples for ``keep=None``, else retrained on the kept ones.

        Args:
            keep: (n,) bool.
            seed: for initial weights and the order of batches; the same for all methods of one run's seed.
        """

    def train_many(self, split: Split, keeps: Sequence[np.ndarray], seed: int) -> Iterator[list[Any]]:
        """Retrained models, one a kept set, in order, in the batches they were trained in.

        By default each by itself; a task of small models trains many in one program.
        """
        for keep in keeps:
            yield [self.train(split, keep, seed)]

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[Any]]:
        """Models of several (split, kept sets, seed), in order, in the batches they were trained in.

        A kept set is None for a base model. By default one seed after another, retrained models by `train_many`.
        """
        for split, keeps, seed in wanted:
            masks = [keep for keep in keeps if keep is not None]
            if len(masks) == len(keeps):
                yield from self.train_many(split, masks, seed)
            else:
                yield from ([self.train(split, keep, seed)] for keep in keeps)

    @abstractmethod
    def view(self, model: Any, split: Split) -> View:
        """What methods see of a trained model."""

    @abstractmethod
    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        """Test metrics as fractions; ``accuracy`` is the reported one. Empty if there is nothing to test on; then
        nothing is retrained either."""

    def curves(self, model: Any, split: Split) -> Mapping[str, Sequence[float]]:
        """Metrics over the steps of a model's training, from the first, as ``{"accuracy_by_epoch": [0.7, 0.8]}``.

        They are stored beside the metrics of `evaluate`, under names that these do not have; the tidy table gives them
        a row a step. None by default."""
        return {}

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        """Training samples as uint8 images (k, h, w, 3), for figures.

        Raises:
            Unsupported: the task's samples are no images.
        """
        raise Unsupported(f"the samples of {self.name} are no images")

    def texts(self, seed: int) -> Mapping[str, list[str]]:
        """The samples that ``load`` gives as texts, ``{"train": [...], "test": [...]}``, for reports; without a model.

        Raises:
            Unsupported: the task's samples are no texts.
        """
        raise Unsupported(f"the samples of {self.name} are no texts")

    def sample_names(self, seed: int) -> list[str] | None:
        """What the training samples that ``load`` gives are called where they come from: files, or rows of a file; for
        lists of suspects. None where their position says it."""
        return None

    def class_names(self) -> list[str] | None:
        """The classes' names, c of them, where they have any."""
        return None
