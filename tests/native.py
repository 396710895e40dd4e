"""Small data folders in the published formats, written for tests."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks._cifar_files import Release
from tasks.cifar import Cifar10N, Cifar100N, CifarN

PER_FILE = 12


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray, label_key: bytes = b"labels") -> None:
    """In the official layout: protocol 2, byte keys, rows of 3072."""
    content = {b"batch_label": b"x", label_key: labels.tolist(), b"data": images.reshape(len(images), -1)}
    path.write_bytes(pickle.dumps(content, protocol=2))


def official(folder: Path, cls: type[CifarN], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files as they are now for the official ones."""

    def md5(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    found = [replace(d, files={name: md5(name) for name in d.files}) for d in cls.release.downloads]
    monkeypatch.setattr(cls, "downloads", tuple(found))


def write_cifar(folder: Path, release: Release, per_file: int = PER_FILE) -> None:
    """Images, human labels and class names of a release, a few each file."""
    rng = np.random.default_rng(0)
    (folder / release.meta).parent.mkdir(parents=True)
    clean: list[int] = []
    for name in (*release.train, *release.test):
        labels = rng.permutation(np.arange(per_file) % release.n_classes)
        pixels = rng.integers(0, 256, (per_file, 3, 32, 32), dtype=np.uint8)
        write_batch(folder / name, pixels, labels, release.label_key)
        clean += labels.tolist() if name in release.train else []
    truth = np.array(clean)
    keys = {"CIFAR-10_human.pt": ["aggre_label", "worse_label", "random_label1", "random_label2", "random_label3"]}
    wrong = (truth + 1) % release.n_classes
    noisy = {
        key: np.where(rng.random(len(truth)) < 0.4, wrong, truth) for key in keys.get(release.human, ["noisy_label"])
    }
    torch.save({"clean_label": truth, **noisy}, folder / release.human)
    names = [f"class {i}".encode() for i in range(release.n_classes)]
    (folder / release.meta).write_bytes(pickle.dumps({release.names_key: names}, protocol=2))


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a few CIFAR-10 images whose checksums count as official."""
    write_cifar(tmp_path, Cifar10N.release)
    official(tmp_path, Cifar10N, monkeypatch)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same of CIFAR-100, with 120 images a file, which count as the whole."""
    write_cifar(tmp_path, Cifar100N.release, 120)
    official(tmp_path, Cifar100N, monkeypatch)
    monkeypatch.setattr(Cifar100N, "release", replace(Cifar100N.release, n_train=120, n_test=120))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of six training and four validation JPEGs (one PNG) of several shapes, each class of one colour."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("n01", "n02", "n03")):
        for part, count in (("train", 6), ("val", 4)):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (40 + 7 * i, 60, 3), dtype=np.uint8)
                pixels[..., label] += 180
                suffix = "png" if i == 0 else "JPEG"
                Image.fromarray(pixels).save(folder / f"{i}.{suffix}", quality=95)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path
