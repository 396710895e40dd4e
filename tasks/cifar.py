"""CIFAR-10 and CIFAR-100 images with the human labels of CIFAR-10N and CIFAR-100N."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.data.files import Download, data_folder, how_to_get, require
from harness.errors import RequestError
from harness.interfaces.task import Split
from harness.selection.registry import register_task
from tasks import _cifar_files as files
from tasks._image_task import ImageTask, image_samples

if TYPE_CHECKING:
    from tasks._networks import Network

FAST: Mapping[str, Any] = {
    "model": "fast_cnn",
    "epochs": 16,
    "batch_size": 512,
    "lr": 0.4,
    "schedule": "one_cycle",
    "turn": 0.2,
}


@dataclass(frozen=True)
class CifarN(ImageTask):
    """Base of the CIFAR-N tasks.

    Args:
        n_train: number of training images drawn from the 50,000; ``none`` takes all.
        n_test: number of test images drawn from the 10,000; ``none`` takes all.
        n_validation: number of test images that form the clean validation set. The reported accuracy excludes them.
    """

    release: ClassVar[files.Release]
    label_keys: ClassVar[Mapping[str, str]]

    noise: str = "clean"
    n_train: int | None = None
    n_test: int | None = None
    n_validation: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("n_train", self.release.n_train), ("n_test", self.release.n_test)):
            value = getattr(self, name)
            if value is not None and not 2 <= value <= most:
                raise ValueError(f"{name}={value} must lie in 2 … {most}, or be none for all")
        most = self.n_test or self.release.n_test
        if not 0 <= self.n_validation < most:
            raise ValueError(f"n_validation={self.n_validation} must leave test images of {most}")

    def check(self) -> None:
        self.check_probe()
        require(self.name, self.downloads)

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        import tasks._images  # noqa: F401 - what it imports is not training's time

        self.check()
        folder, release = data_folder(), self.release
        images, clean = files.read_batches(folder, release.train, release.label_key)
        test_images, test_labels = files.read_batches(folder, release.test, release.label_key)
        human = files.read_human_labels(folder / release.human)
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
        from tasks._noise import noisy_like

        given = human[self.label_keys[self.noise]][: len(clean)]
        if len(given) != len(clean) or not np.array_equal(human["clean_label"][: len(clean)], clean):
            raise RequestError(
                f"{self.release.human} does not belong to these images: its clean labels differ from theirs"
            )
        rng, n_classes = np.random.default_rng(seed), self.release.n_classes
        chosen = self._chosen(len(clean), rng)
        tested = rng.permutation(len(test_labels))[: self.n_test]
        held, reported = tested[: self.n_validation], np.sort(tested[self.n_validation :])
        references = {}
        if self.n_validation:
            noisy = noisy_like(test_labels[held], clean, given, n_classes, rng)
            references = {
                "validation": image_samples(test_images[held], test_labels[held]),
                "noisy_validation": image_samples(test_images[held], noisy),
            }
        train = image_samples(images[chosen], given[chosen])
        test = image_samples(test_images[reported], test_labels[reported])
        return self.as_seen(Split(train, test, references, n_classes)), clean[chosen]

    def _chosen(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.sort(rng.permutation(n)[: self.n_train])

    def sample_names(self, seed: int) -> list[str] | None:
        """The images' numbers in the official order, from 0, as the label file has them."""
        if self.n_train is None:
            return None
        _, labels = files.read_batches(data_folder(), self.release.train, self.release.label_key)
        return [str(i) for i in self._chosen(len(labels), np.random.default_rng(seed))]

    def class_names(self) -> list[str]:
        return files.read_names(data_folder() / self.release.meta, self.release.names_key)


@register_task
@dataclass(frozen=True)
class Cifar10N(CifarN):
    """CIFAR-10 with human label errors: 50,000 images, 9 %, 17 % or 40 % wrong labels.

    Args:
        noise: the labels of three human annotators: ``aggregate`` (their majority), ``random`` (the first annotator)
            or ``worst`` (a wrong label if any annotator gave one). ``clean`` takes the original labels.
    """

    name: ClassVar[str] = "cifar10n"
    title: ClassVar[str] = "CIFAR-10N"
    source: ClassVar[str] = "Wei et al., ICLR 2022; Chhabra et al., ICML 2025, section 5, Tables 2, 4, 5, 7 and 9"
    downloads: ClassVar[tuple[Download, ...]] = files.CIFAR10N.downloads
    needs: ClassVar[str] = how_to_get("cifar10n", downloads)
    release: ClassVar[files.Release] = files.CIFAR10N
    label_keys: ClassVar[Mapping[str, str]] = {
        "clean": "clean_label",
        "aggregate": "aggre_label",
        "random": "random_label1",
        "worst": "worse_label",
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "model": "small_cnn",
            "n_train": 4000,
            "n_test": 3000,
            "epochs": 6,
            "weight_decay": 5e-3,
            "augment": False,
        },
        "fast": FAST,
        "probe": {"model": "probe", "n_validation": 5000},
    }

    noise: Literal["clean", "aggregate", "random", "worst"] = "worst"

    def network(self, n_classes: int, seed: int) -> Network:
        from tasks._networks import CIFAR10, make_network

        return make_network(self.model, n_classes, seed, CIFAR10)


@register_task
@dataclass(frozen=True)
class Cifar100N(CifarN):
    """CIFAR-100 with human label errors: 50,000 images of 100 classes, 40 % wrong labels.

    A shortened copy of the official files, with their first images, also works if ``n_train`` and ``n_test`` are not
    larger than the copy. The labels of a copy are checked against the label file; its images cannot be checked.

    Args:
        noise: ``noisy100``, the one human annotation, or ``clean``, the original labels.
    """

    name: ClassVar[str] = "cifar100n"
    title: ClassVar[str] = "CIFAR-100N"
    source: ClassVar[str] = "Wei et al., ICLR 2022; Chhabra et al., ICML 2025, section 5, Tables 2, 4, 5 and 9"
    downloads: ClassVar[tuple[Download, ...]] = files.CIFAR100N.downloads
    needs: ClassVar[str] = how_to_get("cifar100n", downloads)
    release: ClassVar[files.Release] = files.CIFAR100N
    label_keys: ClassVar[Mapping[str, str]] = {"clean": "clean_label", "noisy100": "noisy_label"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "model": "small_cnn",
            "n_train": 4000,
            "n_test": 1000,
            "n_validation": 300,
            "epochs": 12,
            "weight_decay": 5e-3,
            "augment": False,
        },
        "fast": FAST,
        "probe": {"model": "probe", "n_validation": 5000},
    }

    noise: Literal["clean", "noisy100"] = "noisy100"

    def check(self) -> None:
        self.check_probe()
        folder, release = data_folder(), self.release
        shortened = []
        for (name,), asked, whole in (
            (release.train, self.n_train, release.n_train),
            (release.test, self.n_test, release.n_test),
        ):
            path = folder / name
            if path.is_file() and path.stat().st_size < 0.9 * 3072 * whole:  # pixels are nearly all of it
                count = len(files.read_batches(folder, [name], release.label_key)[1])
                if (asked or whole) > count:
                    what = "n_train" if name in release.train else "n_test"
                    raise RequestError(
                        f"{path} holds {count} of the {whole} images and {what} asks for {asked or 'all'}; give "
                        f"{what}={count} or less, or get the whole: {how_to_get(self.name, self.downloads)}"
                    )
                shortened.append(name)
        require(self.name, self.downloads, unchecked=shortened)

    def network(self, n_classes: int, seed: int) -> Network:
        from tasks._networks import CIFAR100, make_network

        return make_network(self.model, n_classes, seed, CIFAR100)
