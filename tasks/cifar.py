"""CIFAR-10 images with the human labels of CIFAR-10N."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.task_base import Samples, Split, Task, register_task
from tasks import _cifar_files as files

if TYPE_CHECKING:
    from harness.view import View
    from tasks._images import SGDRecipe
    from tasks._networks import Network

LABELS = {"aggregate": "aggre_label", "random": "random_label1", "worst": "worse_label"}


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its test accuracy after every epoch, and the seed it was trained from."""

    network: Network
    history: list[float]
    seed: int


@register_task
@dataclass(frozen=True)
class Cifar10N(Task):
    """CIFAR-10 with human label errors: 50,000 images, 9 %, 17 % or 40 % wrong labels.

    Args:
        noise: the ``aggregate`` of three annotators, a ``random`` (the first) one, or the ``worst`` of them.
        model: resnet34, resnet18 (both in CIFAR form), or small_cnn.
        n_train: training images drawn from the 50,000, ``none`` for all.
        n_test: test images drawn from the 10,000, ``none`` for all.
        n_validation: how many of them become the clean validation set, left out of the reported accuracy.
        epochs, batch_size, lr, weight_decay: SGD with momentum 0.9.
        decay_after: share of the epochs after which the learning rate falls to a tenth.
        augment: random crop with padding 4, and flip, in training.
        shuffle_base: shuffle when the base model is trained; the reference code kept file order there.
        shuffle_retrained: shuffle when models are retrained.
        report: test accuracy of the ``last_epoch``, or the best over all epochs, as published.
        augment_gradients: read features, probabilities and so gradients of the training samples on randomly cropped
            and flipped images, as the reference code did for gradients.
    """

    name: ClassVar[str] = "cifar10n"
    title: ClassVar[str] = "CIFAR-10N"
    source: ClassVar[str] = "Wei et al., ICLR 2022; Chhabra et al., ICML 2025, section 5, Tables 2 and 4"
    needs: ClassVar[str] = files.HOW_TO_GET
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "model": "small_cnn",
            "n_train": 4000,
            "n_test": 3000,
            "epochs": 6,
            "weight_decay": 5e-3,
            "augment": False,
        },
        "fast": {"epochs": 16},
    }
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"n_validation": 0, "shuffle_base": False, "report": "best_epoch", "augment_gradients": True}
    }

    budget: float = 0.05
    noise: Literal["aggregate", "random", "worst"] = "worst"
    model: Literal["resnet34", "resnet18", "small_cnn"] = "resnet34"
    n_train: int | None = None
    n_test: int | None = None
    n_validation: int = 1000
    epochs: int = 100
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    decay_after: float = 0.6
    augment: bool = True
    shuffle_base: bool = True
    shuffle_retrained: bool = True
    report: Literal["last_epoch", "best_epoch"] = "last_epoch"
    augment_gradients: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("n_train", 50_000), ("n_test", 10_000)):
            value = getattr(self, name)
            if value is not None and not 2 <= value <= most:
                raise ValueError(f"{name}={value} must lie in 2 … {most}, or be none for all")
        if not 0 <= self.n_validation < (self.n_test or 10_000):
            raise ValueError(f"n_validation={self.n_validation} must leave test images of {self.n_test or 10_000}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs={self.epochs} and batch_size={self.batch_size} must be at least 1 and 2")

    def check(self) -> None:
        folder = files.data_folder()
        files.verify(folder / "cifar-10-batches-py", files.CIFAR10_MD5)
        files.verify(folder, files.CIFAR10N_MD5)

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        import tasks._images  # noqa: F401 - what it imports is not training's time

        self.check()
        folder = files.data_folder()
        batches = folder / "cifar-10-batches-py"
        images, clean = files.read_batches(batches, [f"data_batch_{i}" for i in range(1, 6)])
        test_images, test_labels = files.read_batches(batches, ["test_batch"])
        human = files.read_human_labels(folder / "CIFAR-10_human.pt")
        return self.make_split(images, clean, human, test_images, test_labels, seed)

    def make_split(
        self,
        images: np.ndarray,
        clean: np.ndarray,
        human: Mapping[str, np.ndarray],
        test_images: np.ndarray,
        test_labels: np.ndarray,
        seed: int,
    ) -> tuple[Split, np.ndarray]:
        """Draw the preset's subsets; a drawn training set keeps file order.

        Raises:
            RequestError: the label file does not belong to the images.
        """
        from harness.errors import RequestError
        from tasks._noise import noisy_like

        given = human[LABELS[self.noise]]
        if len(given) != len(clean) or not np.array_equal(human["clean_label"], clean):
            raise RequestError("CIFAR-10_human.pt does not belong to these images: its clean labels differ from theirs")
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(clean))[: self.n_train])
        tested = rng.permutation(len(test_labels))[: self.n_test]
        held, reported = tested[: self.n_validation], np.sort(tested[self.n_validation :])
        references = {}
        if self.n_validation:
            noisy = noisy_like(test_labels[held], clean, given, 10, rng)
            references = {
                "validation": _samples(test_images[held], test_labels[held]),
                "noisy_validation": _samples(test_images[held], noisy),
            }
        split = Split(
            _samples(images[chosen], given[chosen]),
            _samples(test_images[reported], test_labels[reported]),
            references,
            10,
        )
        return split, clean[chosen]

    def recipe(self, shuffle: bool) -> SGDRecipe:
        """How a network is trained."""
        from tasks._images import SGDRecipe

        return SGDRecipe(
            self.epochs, self.batch_size, self.lr, self.weight_decay, self.decay_after, self.augment, shuffle
        )

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> TrainedNetwork:
        import torch

        from tasks._images import accuracy, fit
        from tasks._networks import make_network

        network = make_network(self.model, split.n_classes, seed).to(split.device)
        images, labels = split.train.inputs, split.train.labels
        if keep is not None:
            mask = torch.from_numpy(keep).to(labels.device)
            images, labels = images[mask], labels[mask]
        history: list[float] = []
        recipe = self.recipe(self.shuffle_base if keep is None else self.shuffle_retrained)
        fit(
            network,
            images,
            labels,
            recipe,
            seed,
            lambda trained: history.append(accuracy(trained, split.test.inputs, split.test.labels)),
        )
        return TrainedNetwork(network, history, seed)

    def view(self, model: TrainedNetwork, split: Split) -> View:
        from harness.outputs import Outputs
        from harness.view import View
        from tasks._images import read_out

        def outputs(samples: Samples, augment_seed: int | None = None) -> Outputs:
            features, probs = read_out(model.network, samples.inputs, augment_seed)
            return Outputs(samples.labels, probs, features)

        augment_seed = model.seed if self.augment_gradients else None
        return View(
            split.train.labels.cpu().numpy(),
            lambda: outputs(split.train, augment_seed),
            {name: partial(outputs, samples) for name, samples in split.references.items()},
            device=split.device,
        )

    def evaluate(self, model: TrainedNetwork, split: Split) -> dict[str, float]:
        last, best = model.history[-1], max(model.history)
        return {"accuracy": best if self.report == "best_epoch" else last, "accuracy_best_epoch": best}


def _samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    import torch

    return Samples(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
