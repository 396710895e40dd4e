"""The shared code of image tasks: network and training parameters, training, model outputs, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.params import at_least, option
from harness.interfaces.task import Samples, Split, Task
from harness.seeds import derive

if TYPE_CHECKING:
    import torch

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from tasks._images import Recipe, Windows
    from tasks._networks import Network
    from tasks._probe import Probe
    from tasks._trained_network import TrainedNetwork

HIDDEN: Mapping[str, Any] = {"epochs": 15, "batch_size": 512, "lr": 2e-3, "weight_decay": 1e-2}
"""How a probe with a hidden layer is trained; see `tasks._hidden_head`."""


@dataclass(frozen=True)
class ImageTask(Task):
    """Base of tasks on images; the defaults are the published recipe.

    Args:
        model: resnet34, resnet18, fast_cnn (for short trainings on a GPU), small_cnn (for CPUs), or ``probe``: a head
            on the features of a frozen encoder. Of the following parameters, a probe uses the last five alone.
        epochs, batch_size, lr, weight_decay: settings of SGD with momentum 0.9.
        schedule: ``step`` divides the learning rate by ten once. ``one_cycle`` raises and then lowers the rate, to 0.
        turn: share of the training after which the learning rate falls (step) or is highest (one_cycle).
        augment: whether training images are randomly cropped and flipped.
        precision: float32, or bfloat16 autocast, in training and reading out; ``auto`` is bfloat16 on a CUDA device
            that has it, and float32 elsewhere.
        compiled: whether networks train by ``torch.compile``. Compilation takes time once and needs a compiler for
            C++ or the GPU. On a CPU, compilation saved no time (docs/speed.md).
        shuffle_base: whether samples are shuffled when the base model is trained. The reference code did not shuffle.
        shuffle_retrained: whether samples are shuffled when models are retrained.
        fresh_start: whether each retrained model gets new initial weights and a new batch order, which depend on the
            kept samples, as in the reference code. Otherwise both are those of the base model.
        report: test accuracy of the ``last_epoch``, or the best test accuracy over all epochs, as published.
        augment_gradients: whether the training samples' features, probabilities and gradients are computed on
            randomly cropped and flipped images. The reference code did so for gradients.
        record: the logits that training dynamics record. ``pass`` records logits during training, on augmented images
            and with changing weights, as AUM defines. ``epoch`` records logits of plain images after each epoch.
        retrainings: how many networks one method's scores may ask for. A probe has no such limit.
        encoder: of a probe: ``efficientnet_lite0`` (ImageNet weights), a name of timm, or a Hugging Face name or local
            folder of an image encoder.
        pixels: the side that a probe's encoder sees images at.
        penalty: λ of (λ/2)|W|² in a probe's softmax regression, or ``auto``: chosen by the cross-entropy of the noisy
            validation labels.
        tolerance: a probe's gradient norm at the end, relative to the norm at zero weights. The optimiser is L-BFGS.
        width: of a hidden layer between a probe's features and its classes; 0 for softmax regression, which is convex.
    """

    after_training: ClassVar[frozenset[str]] = Task.after_training | {"report", "retrainings"}
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "n_validation": 0,
            "shuffle_base": False,
            "fresh_start": True,
            "report": "best_epoch",
            "augment_gradients": True,
        }
    }

    budget: float = 0.05
    model: Literal["resnet34", "resnet18", "fast_cnn", "small_cnn", "probe"] = "resnet34"
    epochs: int = 100
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    schedule: Literal["step", "one_cycle"] = "step"
    turn: float = 0.6
    augment: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compiled: bool = option(False)
    shuffle_base: bool = True
    shuffle_retrained: bool = True
    fresh_start: bool = option(False)
    report: Literal["last_epoch", "best_epoch"] = "last_epoch"
    augment_gradients: bool = False
    record: Literal["pass", "epoch"] = option("pass")
    retrainings: int = option(10)
    encoder: str = option("efficientnet_lite0")
    pixels: int = option(128)
    penalty: float | Literal["auto"] = option("auto")
    tolerance: float = option(1e-4)
    width: int = option(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, epochs=1, batch_size=2, pixels=16, width=0, retrainings=0)
        if self.penalty != "auto" and not float(self.penalty) > 0:
            raise ValueError(f"penalty={self.penalty} must be positive, or auto")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance={self.tolerance} must lie between 0 and 1")
        if not 0 < self.turn <= 1:
            raise ValueError(f"turn={self.turn} must be a share in (0, 1]")

    def windows(self) -> Windows:
        """The crops that training and evaluation see."""
        from tasks._images import Windows

        return Windows(32, 4)

    def network(self, n_classes: int, seed: int) -> Network:
        """The untrained network."""
        raise NotImplementedError

    def recipe(self, shuffle: bool) -> Recipe:
        """How a network is trained."""
        from tasks._images import Recipe

        return Recipe(
            self.epochs,
            self.batch_size,
            self.lr,
            self.weight_decay,
            self.schedule,
            self.turn,
            self.windows(),
            self.augment,
            shuffle,
            self.precision,
            self.compiled,
        )

    @property
    def most_retrainings(self) -> int:  # type: ignore[override]  # a class variable of other tasks
        return Task.most_retrainings if self.is_probe else self.retrainings

    @property
    def full_title(self) -> str:
        """A probe names its encoder, because what the encoder was trained on is part of the result."""
        if not self.is_probe:
            return super().full_title
        return f"{super().full_title}, a head on {self.encoder} at {self.pixels} pixels"

    @property
    def is_probe(self) -> bool:
        """Whether the model is a head on the features of a frozen encoder."""
        return self.model == "probe"

    def check_probe(self) -> None:
        """Raise a `RequestError` if a probe's encoder cannot be loaded."""
        if self.is_probe:
            from tasks._vision_encoders import check_encoder

            check_encoder(self.encoder)

    def as_seen(self, split: Split) -> Split:
        """A split of images as the model takes them: unchanged for a network, features for a probe."""
        if not self.is_probe:
            return split
        from tasks._embedding import embedded

        return embedded(split, self.encoder, self.pixels)

    def _probe(self) -> Probe:
        from tasks._hidden_head import HiddenRecipe
        from tasks._probe import Probe

        hidden = HiddenRecipe(self.width, **HIDDEN) if self.width else None
        return Probe(None if isinstance(self.penalty, str) else self.penalty, self.tolerance, hidden)

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[Any]]:
        return self._probe().train_all(wanted) if self.is_probe else super().train_all(wanted)

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        if self.is_probe:
            return self._probe().train(split, keep, seed)
        if keep is not None and self.fresh_start:
            seed = derive("fresh start", seed, np.packbits(keep).tobytes().hex())
        return self._trained(split, keep, seed, None)

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> Any:
        if self.is_probe:
            return self._probe().train(split, None, seed, recorder)
        return self._trained(split, None, seed, recorder)

    def _trained(self, split: Split, keep: np.ndarray | None, seed: int, recorder: Recorder | None) -> TrainedNetwork:
        import torch

        from tasks._images import accuracy, fit
        from tasks._trained_network import TrainedNetwork

        network = self.network(split.n_classes, seed).to(split.device)
        recipe = self.recipe(self.shuffle_base if keep is None else self.shuffle_retrained)
        kept = None if keep is None else torch.from_numpy(np.flatnonzero(keep)).to(split.device)
        history: list[float] = []
        train, test = split.train, split.test
        model = TrainedNetwork(network, history, recipe, seed)

        def after_epoch(_: int) -> None:
            if len(test):
                history.append(accuracy(network, test.inputs, test.labels, recipe))
            if recorder is not None:
                recorder.moment(model, None if self.record == "pass" else lambda: model.logits(train))

        if recorder is not None:
            recorder.start(recipe.masses(len(train)))
        in_pass = recorder.batch if recorder is not None and self.record == "pass" else None
        try:
            fit(network, train.inputs, train.labels, recipe, seed, after_epoch, kept, in_pass)
        except RuntimeError as error:
            if not (self.compiled and type(error).__module__.startswith(("torch._inductor", "torch._dynamo"))):
                raise
            raise Unsupported(f"compiled=yes, and PyTorch cannot compile here: {str(error).splitlines()[0]}") from error
        return model

    def module(self, model: Any, split: Split) -> Callable[..., Any]:
        module: Callable[..., Any] = model.module()
        return module

    def l2_penalty(self, model: Any, split: Split) -> float:
        if self.is_probe and self.width:
            raise Unsupported("a probe with a hidden layer is trained by AdamW, whose weight decay is no L2 penalty")
        return self._probe().chosen_penalty(split) if self.is_probe else self.weight_decay

    def module_inputs(self, samples: Samples) -> Any:
        return samples.inputs.values if self.is_probe else samples.inputs

    def encoder_features(self, samples: Samples) -> torch.Tensor:
        """By the encoder that ``encoder`` and ``pixels`` name, whatever the trained model."""
        if self.is_probe:
            features: torch.Tensor = samples.inputs.values
            return features
        from tasks._feature_store import features_of
        from tasks._vision_encoders import vision_encoder

        device = str(samples.inputs.device)
        encoder = vision_encoder(self.encoder, self.pixels, device)
        return features_of(samples.inputs.cpu(), self.encoder, encoder, device)

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        outputs: Outputs = model.outputs(samples)
        return outputs

    def training_outputs(self, model: Any, samples: Samples) -> Outputs:
        outputs: Outputs = model.outputs(samples, augmented=self.augment_gradients)
        return outputs

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        metrics: dict[str, float] = model.metrics(split, self.report)
        return metrics

    def curves(self, model: Any, split: Split) -> Mapping[str, Sequence[float]]:
        curves: Mapping[str, Sequence[float]] = model.curves()
        return curves

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        import torch

        every: torch.Tensor = split.train.inputs.images if self.is_probe else split.train.inputs
        images = every[torch.from_numpy(indices)]
        return images.permute(0, 2, 3, 1).cpu().numpy()


def image_samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    """uint8 images (n, 3, h, w) and labels (n,) as tensors."""
    import torch

    return Samples(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
