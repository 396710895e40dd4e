"""The shared code of image tasks: network and training parameters, training, model outputs, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its test accuracy after every epoch, its recipe, and the seed it was trained from."""

    network: Network
    history: list[float]
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class ImageTask(Task):
    """Base of tasks on images; the defaults are the published recipe.

    Args:
        model: resnet34, resnet18, fast_cnn (for short trainings on a GPU) or small_cnn (for CPUs).
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
    """

    after_training: ClassVar[frozenset[str]] = Task.after_training | {"report"}
    most_retrainings: ClassVar[int] = 10
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
    model: Literal["resnet34", "resnet18", "fast_cnn", "small_cnn"] = "resnet34"
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

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, epochs=1, batch_size=2)
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

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> TrainedNetwork:
        if keep is not None and self.fresh_start:
            seed = derive("fresh start", seed, np.packbits(keep).tobytes().hex())
        return self._trained(split, keep, seed, None)

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> TrainedNetwork:
        return self._trained(split, None, seed, recorder)

    def _trained(self, split: Split, keep: np.ndarray | None, seed: int, recorder: Recorder | None) -> TrainedNetwork:
        import torch

        from tasks._images import accuracy, fit

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
                recorder.moment(model, None if self.record == "pass" else lambda: logits_of(network, train, recipe))

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

    def module(self, model: TrainedNetwork, split: Split) -> Callable[..., Any]:
        """The network on uint8 images, cut and scaled as in evaluation."""
        from tasks._images import OnImages

        return OnImages(model.network, model.recipe).eval()

    def outputs(self, model: TrainedNetwork, samples: Samples, augment_seed: int | None = None) -> Outputs:
        """As of any task.

        Args:
            augment_seed: read randomly cropped and flipped images, drawn from this seed; None reads plain ones.
        """
        from harness.interfaces.outputs import Outputs
        from tasks._images import read_out

        features, probs = read_out(model.network, samples.inputs, model.recipe, augment_seed)
        return Outputs(samples.labels, probs, features)

    def training_outputs(self, model: TrainedNetwork, samples: Samples) -> Outputs:
        return self.outputs(model, samples, model.seed if self.augment_gradients else None)

    def evaluate(self, model: TrainedNetwork, split: Split) -> dict[str, float]:
        last, best = model.history[-1], max(model.history)
        return {"accuracy": best if self.report == "best_epoch" else last, "accuracy_best_epoch": best}

    def curves(self, model: TrainedNetwork, split: Split) -> Mapping[str, Sequence[float]]:
        return {"accuracy_by_epoch": model.history}

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        import torch

        images: torch.Tensor = split.train.inputs[torch.from_numpy(indices)]
        return images.permute(0, 2, 3, 1).cpu().numpy()


def logits_of(network: Network, samples: Samples, recipe: Recipe) -> torch.Tensor:
    """Logits of plain images in eval mode, (n, c)."""
    import torch

    from tasks._images import read_out

    features, _ = read_out(network, samples.inputs, recipe)
    with torch.no_grad():
        return torch.as_tensor(network.head(features))


def image_samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    """uint8 images (n, 3, h, w) and labels (n,) as tensors."""
    import torch

    return Samples(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
