"""A subset of ImageNet with flipped labels, read from class folders."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.data.files import VARIABLE, data_folder
from harness.errors import RequestError
from harness.interfaces.task import Split
from harness.selection.registry import register_task
from tasks._image_files import images_in, is_class_folder, square
from tasks._image_task import ImageTask, image_samples

if TYPE_CHECKING:
    from tasks._images import Windows
    from tasks._networks import Network

MARGIN = 8 / 7
"""Ratio of the stored images' side to the crops' side: 256 to 224."""


@register_task
@dataclass(frozen=True)
class ImagenetSubset(ImageTask):
    """50 images of each ImageNet class, of which 40 % have a flipped label. The test set is the validation images.

    Images are read from ``imagenet/train/CLASS/*.JPEG`` and ``imagenet/val/CLASS/*.JPEG`` in the data folder. The
    shorter side is scaled to 8/7 of ``size``, and the middle square is kept. Classes are the folders in sorted order.

    Args:
        per_class: training images drawn from each class.
        flip: share of each class's labels that become another class, drawn uniformly.
        size: side of the crops that the network sees, in pixels.
        n_test: number of validation images drawn; ``none`` takes all.
        n_validation: number of drawn images that form the clean validation set. The reported accuracy excludes them.
        weights: a file below the data folder with a torchvision ResNet's weights to start from, such as
            ``resnet18-f37072fd.pth``. ``none`` starts from random weights; the published accuracies (49 to 52 % after
            ten epochs on 50 images per class) are then out of reach.
    """

    name: ClassVar[str] = "imagenet_subset"
    title: ClassVar[str] = "ImageNet subset"
    source: ClassVar[str] = "Deng et al., CVPR 2009; Chhabra et al., ICML 2025, appendix B.5, Table 8"
    needs: ClassVar[str] = (
        "ImageNet cannot be downloaded without registration (https://image-net.org): put its images as imagenet/train/"
        f"CLASS/*.JPEG and imagenet/val/CLASS/*.JPEG in a folder and name that by --data-dir or {VARIABLE}"
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "model": "small_cnn",
            "size": 32,
            "per_class": 20,
            "n_test": 1000,
            "n_validation": 300,
            "epochs": 6,
            "augment": False,
        },
        "fast": {"size": 64, "n_test": 10_000, "batch_size": 256, "schedule": "one_cycle", "turn": 0.2},
        "probe": {"model": "probe", "size": 128},
    }

    model: Literal["resnet34", "resnet18", "fast_cnn", "small_cnn", "probe"] = "resnet18"
    epochs: int = 10
    per_class: int = 50
    flip: float = 0.4
    size: int = 224
    n_test: int | None = None
    n_validation: int = 1000
    weights: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_class < 2 or not 0 <= self.flip < 1 or self.size < 16:
            raise ValueError(
                f"per_class={self.per_class}, flip={self.flip} and size={self.size} must be at least 2, a share in "
                "[0, 1), and at least 16"
            )
        if self.n_validation < 0 or (self.n_test is not None and self.n_test <= self.n_validation):
            raise ValueError(f"n_validation={self.n_validation} must leave test images of {self.n_test}")
        if self.weights is not None and not self.model.startswith("resnet"):
            raise ValueError(f"weights={self.weights} are a ResNet's; model={self.model} has no such layers")

    def check(self) -> None:
        self.check_probe()
        classes = self._classes()
        for name, folder in (("train", self._folder("train")), ("val", self._folder("val"))):
            names = [entry.name for entry in folder.iterdir() if is_class_folder(entry)]
            if not names:
                raise RequestError(f"{folder} holds no class folders; sort the images into one folder per class")
            if sorted(names) != classes:
                odd = sorted(set(names) ^ set(classes))
                raise RequestError(
                    f"{folder} has other classes than imagenet/train: {', '.join(odd[:3])}{'…' if len(odd) > 3 else ''}"
                )
            if name == "train":
                for label in classes:
                    count = len(images_in(folder / label))
                    if count < self.per_class:
                        raise RequestError(
                            f"{folder / label} holds {count} images and per_class asks for {self.per_class}; give less"
                        )
        tests = sum(len(images_in(self._folder("val") / label)) for label in classes)
        if (self.n_test or tests) > tests or self.n_validation >= tests:
            raise RequestError(
                f"{self._folder('val')} holds {tests} images; n_test={self.n_test} and "
                f"n_validation={self.n_validation} ask for more"
            )
        if self.weights is not None:
            path = data_folder() / self.weights
            if not path.resolve().is_relative_to(data_folder().resolve()) or not path.is_file():
                raise RequestError(f"weights={self.weights} is no file in the data folder {data_folder()}")

    def data_version(self) -> str:
        """A hash of the images' names and sizes, and of the weights to start from."""
        parts = [self._folder(split) for split in ("train", "val")]
        entries = [entry for folder in parts if folder.is_dir() for entry in sorted(folder.iterdir())]
        folders = [entry for entry in entries if is_class_folder(entry)]
        if not folders:
            return ""
        images = _digest(tuple((folder, folder.stat().st_mtime_ns) for folder in folders))
        weights = data_folder() / self.weights if self.weights is not None else None
        if weights is None or not weights.is_file():
            return images
        with weights.open("rb") as file:
            return images + "-" + hashlib.file_digest(file, "sha256").hexdigest()[:8]

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        import tasks._images  # noqa: F401 - what it imports is not training's time
        from tasks._noise import noisy_like

        self.check()
        rng = np.random.default_rng(seed)
        classes = self._classes()
        train_files, truth, labels = self._drawn(classes, rng)
        tests = [(path, c) for c, name in enumerate(classes) for path in images_in(self._folder("val") / name)]
        chosen = rng.permutation(len(tests))[: self.n_test]
        pixels = _read([tests[i][0] for i in chosen], round(MARGIN * self.size))
        answers = np.array([tests[i][1] for i in chosen])
        held, reported = slice(0, self.n_validation), slice(self.n_validation, None)
        references = {}
        if self.n_validation:
            noisy = noisy_like(answers[held], truth, labels, len(classes), rng)
            references = {
                "validation": image_samples(pixels[held], answers[held]),
                "noisy_validation": image_samples(pixels[held], noisy),
            }
        train = image_samples(_read(train_files, round(MARGIN * self.size)), labels)
        split = Split(train, image_samples(pixels[reported], answers[reported]), references, len(classes))
        return self.as_seen(split), truth

    def _drawn(self, classes: Sequence[str], rng: np.random.Generator) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """Training images with their true and their given labels, in the order of training."""
        from tasks._noise import symmetric

        files: list[Path] = []
        given: list[np.ndarray] = []
        for label, name in enumerate(classes):
            images = images_in(self._folder("train") / name)
            files += [images[i] for i in np.sort(rng.permutation(len(images))[: self.per_class])]
            given.append(symmetric(np.full(self.per_class, label), len(classes), self.flip, rng))
        truth, labels = np.repeat(np.arange(len(classes)), self.per_class), np.concatenate(given)
        order = rng.permutation(len(labels))  # file order would be class by class
        return [files[i] for i in order], truth[order], labels[order]

    def sample_names(self, seed: int) -> list[str]:
        """The images' paths below the data folder."""
        files, _, _ = self._drawn(self._classes(), np.random.default_rng(seed))
        return [path.relative_to(data_folder()).as_posix() for path in files]

    def windows(self) -> Windows:
        from tasks._images import Windows

        return Windows(self.size, 0)

    def network(self, n_classes: int, seed: int) -> Network:
        from tasks._networks import IMAGENET, load_weights, make_network

        network = make_network(self.model, n_classes, seed, IMAGENET, large=self.size > 64 or self.weights is not None)
        if self.weights is not None:
            load_weights(network, data_folder() / self.weights)
        return network

    def class_names(self) -> list[str]:
        return self._classes()

    def _folder(self, split: str) -> Path:
        return data_folder() / "imagenet" / split

    def _classes(self) -> list[str]:
        for split in ("train", "val"):
            if not self._folder(split).is_dir():
                raise RequestError(f"{self.name} needs its data: {self._folder(split)} is missing; {self.needs}")
        classes = sorted(entry.name for entry in self._folder("train").iterdir() if is_class_folder(entry))
        if len(classes) < 2:
            raise RequestError(f"{self._folder('train')} holds {len(classes)} class folders; at least 2 are needed")
        return classes


@functools.lru_cache(maxsize=4)
def _digest(folders: tuple[tuple[Path, int], ...]) -> str:
    """A hash of the images in the folders. The folders' times only decide when the hash is computed again."""
    digest = hashlib.sha256()
    for folder, _ in folders:
        images = [f"{path.name} {path.stat().st_size}" for path in images_in(folder)]
        digest.update(os.fsencode("\0".join([folder.parent.name, folder.name, *images])))
    return digest.hexdigest()[:16]


def _read(paths: Sequence[Path], side: int) -> np.ndarray:
    """Middle squares of images scaled to a shorter side of ``side``, (n, 3, side, side) uint8; threads decode them."""
    from joblib import Parallel, delayed

    pixels = np.empty((len(paths), 3, side, side), dtype=np.uint8)

    def fill(i: int) -> None:
        pixels[i] = square(paths[i], side)

    Parallel(n_jobs=-1, backend="threading")(delayed(fill)(i) for i in range(len(paths)))
    return pixels
