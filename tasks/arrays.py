"""A task from the user's own arrays: features, images or probabilities, with given labels and optional test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.interfaces.params import option
from harness.interfaces.task import Samples, Split, Task
from harness.selection.registry import register_task
from tasks._array_file import ArrayFile, Part, digest, read
from tasks._array_models import OnFeatures, OnImages

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs

ON_FEATURES = ("linear", "mlp")
NOTHING_TO_TRAIN_ON = "retraining needs features or images; the file has probabilities alone"


@dataclass(frozen=True, eq=False)
class GivenSamples(Samples):
    """Samples with the probabilities that the user's own model gave."""

    probs: Tensor

    def to(self, device: str) -> GivenSamples:
        inputs = None if self.inputs is None else self.inputs.to(device)
        return GivenSamples(inputs, self.labels.to(device), self.probs.to(device))


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A trained model with the task that trained the model; None if no model was trained.

    Args:
        given: whether methods see the file's own probabilities instead of the model's.
    """

    trained: Any
    trainer: Any
    given: bool


@register_task
@dataclass(frozen=True)
class Arrays(Task):
    """Your own data, from an ``.npz`` file: ``arrays[path=data.npz]``.

    The file holds ``labels`` (n,), numbers, booleans or text, and ``features`` (n, d) or uint8 ``images`` (n, h, w, 3).
    The file may also hold ``probs`` (n, c) of your own model, best from cross-validation, with or without features or
    images. The columns of ``probs`` are the class numbers, or the classes in order (numeric or alphabetical). With
    ``probs``, ``features`` must be the input of your model's last layer, because gradients are computed from this
    input. Rows without a label are left out.

    With ``true_labels``, detection is measured. With ``test_labels`` and ``test_features`` (or ``test_images``), the
    accuracy after trimming is measured. The arrays ``validation_...`` are the clean reference set.

    Args:
        path: the ``.npz`` file.
        model: ``auto`` is ``linear`` (logistic regression) on features and ``small_cnn`` on images. ``probe`` is
            softmax regression on the features of a frozen encoder of images. If the file has no ``probs``, methods
            analyse this model. If the file has test samples, the accuracies are of this model.
        width: width of the hidden layer of ``mlp``.
        steps: number of full-batch Adam steps of a model on features.
        epochs: number of training epochs of a model on images.
        weight_decay: L2 penalty.
        standardise: whether features are standardised by the mean and deviation of the training samples. With
            ``probs``, features stay unchanged, because your last layer saw them unchanged.
        encoder, pixels: of a ``probe``, as for the task ``cifar10n``.
        bias: whether the last layer that computed ``probs`` has a bias. If so, gradients include the bias.
    """

    name: ClassVar[str] = "arrays"
    title: ClassVar[str] = "Own arrays"
    source: ClassVar[str] = "the user's file"
    needs: ClassVar[str] = "arrays[path=FILE.npz] with labels, and features, images or probs"
    named_only: ClassVar[bool] = True
    same_samples: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"steps": 100, "epochs": 2}}

    path: str = ""
    model: Literal["auto", "linear", "mlp", "small_cnn", "fast_cnn", "resnet18", "resnet34", "probe"] = "auto"
    width: int = 64
    steps: int = 500
    epochs: int = 10
    weight_decay: float = 1e-3
    standardise: bool = True
    bias: bool = True
    encoder: str = option("efficientnet_lite0")
    pixels: int = option(128)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("width", 1), ("steps", 1), ("epochs", 1), ("weight_decay", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")

    def check(self) -> None:
        file = self._read()
        if self.model != "auto" and file.train.inputs is not None and (self.model in ON_FEATURES) == file.images:
            fits = "probe, small_cnn, fast_cnn, resnet18 or resnet34" if file.images else "linear or mlp"
            raise RequestError(f"arrays[model={self.model}] does not fit the file's inputs; give {fits}")

        if self.model == "probe":
            from tasks._vision_encoders import check_encoder

            check_encoder(self.encoder)
        if self.model == "fast_cnn" and file.train.inputs is not None and min(file.train.inputs.shape[2:]) < 16:
            raise RequestError("arrays[model=fast_cnn] needs images of 16 pixels or more; give small_cnn")

    def data_version(self) -> str:
        return digest(self._path())

    def load(self, seed: int) -> tuple[Split, np.ndarray | None]:
        file = self._read()
        references = {} if file.validation is None else {"validation": self._samples(file.validation, file)}
        none = file.train.labels[:0]
        nothing = Part(None if file.train.inputs is None else file.train.inputs[:0], none, None, none)
        test = nothing if file.test is None or file.test.inputs is None else file.test
        split = Split(self._samples(file.train, file), self._samples(test, file), references, len(file.classes))
        if self.model == "probe" and split.train.inputs is not None:
            from tasks._embedding import embedded

            split = embedded(split, self.encoder, self.pixels)
        return split, file.truth

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[OwnModel]]:
        if any(keep is None for _, keeps, _ in wanted for keep in keeps):
            yield from super().train_all(wanted)
            return
        split = wanted[0][0]
        if split.train.inputs is None:
            raise Unsupported(NOTHING_TO_TRAIN_ON)
        for models in self._trainer(split).train_all(wanted):
            yield [OwnModel(model, self._trainer(split), False) for model in models]

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> OwnModel:
        """Train one model. If the file gives ``probs``, the base model is trained only if there are test samples."""
        given = isinstance(split.train, GivenSamples)
        if split.train.inputs is None:
            if keep is not None:
                raise Unsupported(NOTHING_TO_TRAIN_ON)
            return OwnModel(None, None, True)
        if given and keep is None and not len(split.test):
            return OwnModel(None, None, True)
        trainer = self._trainer(split)
        return OwnModel(trainer.train(split, keep, seed), trainer, given and keep is None)

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> OwnModel:
        if isinstance(split.train, GivenSamples) or split.train.inputs is None:
            raise Unsupported("training dynamics need features or images, and no probs in the file")
        trainer = self._trainer(split)
        recorder.as_model = lambda trained: OwnModel(trained, trainer, False)
        return OwnModel(trainer.train_recorded(split, seed, recorder), trainer, False)

    def module(self, model: OwnModel, split: Split) -> Callable[..., Any]:
        if model.given:
            raise Unsupported("the file gives probabilities and no model")
        module: Callable[..., Any] = model.trainer.module(model.trained, split)
        return module

    def module_inputs(self, samples: Samples) -> Any:
        return samples.inputs.values if self.model == "probe" and samples.inputs is not None else samples.inputs

    def outputs(self, model: OwnModel, samples: Samples) -> Outputs:
        if model.given:
            return self._given(samples)
        outputs: Outputs = model.trainer.outputs(model.trained, samples)
        return outputs

    def evaluate(self, model: OwnModel, split: Split) -> dict[str, float]:
        return model.trainer.evaluate(model.trained, split) if len(split.test) else {}

    def class_names(self) -> list[str]:
        return self._read().classes

    def sample_names(self, seed: int) -> list[str] | None:
        """The samples' row numbers in the file, if rows were left out; otherwise None, as positions are rows."""
        file = self._read()
        return [f"row {row}" for row in file.train.rows] if file.left_out else None

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        if split.train.inputs is None or not self._read().images:
            return super().pictures(split, indices)
        pictures: np.ndarray = self._trainer(split).pictures(split, indices)
        return pictures

    def _path(self) -> str:
        if not self.path:
            raise RequestError(f"the task arrays needs a file; write {self.needs}")
        return self.path

    def _read(self) -> ArrayFile:
        return read(self._path())

    def _samples(self, samples: Part, file: ArrayFile) -> Samples:
        import torch

        inputs = samples.inputs
        if inputs is not None and self.standardise and not file.images and file.train.probs is None:
            assert file.train.inputs is not None
            inputs = _standardised(inputs, file.train.inputs)
        elif inputs is not None and not file.images:
            inputs = self._single(inputs)
        tensor = None if inputs is None else torch.from_numpy(np.ascontiguousarray(inputs))
        labels = torch.from_numpy(samples.labels)
        if samples.probs is None:
            return Samples(tensor, labels)
        return GivenSamples(tensor, labels, torch.from_numpy(samples.probs))

    def _single(self, features: np.ndarray) -> np.ndarray:
        """Features in float32, as they are."""
        with np.errstate(over="ignore"):
            single = features.astype(np.float32)
        if not np.isfinite(single).all():
            raise RequestError(f"arrays[path={self.path}]: features must be of float32's range, or standardise=yes")
        return single

    def _given(self, samples: Samples) -> Outputs:
        from harness.interfaces.outputs import Outputs

        if not isinstance(samples, GivenSamples):
            raise Unsupported("the file has probs but no validation_probs, so its validation set has no gradients")
        features = None if samples.inputs is None or self._read().images else samples.inputs
        return Outputs(samples.labels, samples.probs, features, bias=self.bias)

    def _trainer(self, split: Split) -> Any:
        """The task that trains the model, without data of its own."""
        if self.model == "probe":
            return OnImages(self.budget, model="probe", encoder=self.encoder, pixels=self.pixels)
        if split.train.inputs.ndim == 2:
            hidden = self.width * (self.model == "mlp")
            return OnFeatures(self.budget, hidden=hidden, steps=self.steps, weight_decay=self.weight_decay)
        network: Any = "small_cnn" if self.model == "auto" else self.model
        size = min(split.train.inputs.shape[2:])
        few = max(2, min(128, len(split.train) // 8))
        return OnImages(
            self.budget, model=network, epochs=self.epochs, batch_size=few, weight_decay=self.weight_decay, size=size
        )


def _standardised(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features minus the training samples' mean, divided by the training samples' standard deviation, float32.

    First, each column's first training value is subtracted without rounding. The differences of large integers, such
    as times in nanoseconds, then fit in float64. Second, each column is scaled to a largest absolute value of 1, so
    that no square leaves float64's range. Then the mean is computed. A constant column becomes 0.

    Raises:
        RequestError: values so far apart that their differences leave float64's range.
    """
    offset = train[0]
    moved, mine = _less(train, offset), _less(features, offset)
    largest = np.abs(moved).max(0)
    scale = np.where(largest > 0, largest, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        moved, mine = moved / scale, mine / scale
        deviation = moved.std(0)
        standardised = np.asarray((mine - moved.mean(0)) / np.where(deviation > 0, deviation, 1), dtype=np.float32)
    if not np.isfinite(standardised).all():
        raise RequestError("features must be finite numbers whose differences are within the range of their type")
    return standardised


def _less(values: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Values minus an offset of each column, float64, subtracted in a type that holds them all."""
    long = (values.dtype.kind in "iu" and values.dtype.itemsize == 8) or values.dtype.itemsize > 8
    wide = np.longdouble if long else np.float64
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(wide) - offset.astype(wide), dtype=np.float64)
