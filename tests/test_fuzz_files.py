"""Seeded damage to data files: pickles of images, human labels, GLUE's tables, arrays, pictures: data, or one sentence.

`tox -e survive` tries many. Nothing is executed, and nothing is written.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.errors import RequestError
from tasks import _array_file, _cifar_files, _glue_files
from tasks.glue import Sst2
from tests.array_files import data
from tests.glue_files import write_glue
from tests.test_damage import CASES, LIMIT, scrambled, within


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut off, doubled, changed; of a pickle also an instruction replaced by another one."""
    if rng.random() < 0.5:
        return scrambled(raw, rng)
    try:
        places = [place for _, _, place in pickletools.genops(raw) if place is not None]
    except Exception:  # no pickle
        return scrambled(raw, rng)
    codes = [ord(each.code) for each in pickletools.opcodes]
    changed = bytearray(raw)
    for place in rng.choice(places, rng.integers(1, 4)):
        changed[place] = codes[rng.integers(len(codes))]
    return bytes(changed)


def every_case(path: Path, raw: bytes, read: Callable[[], object]) -> None:
    """Read a file that is damaged in many ways; nothing is made beside it."""
    beside = set(path.parent.iterdir()) | {path}
    for seed in range(CASES):
        path.write_bytes(damaged(raw, np.random.default_rng(seed)))
        try:
            with within(LIMIT), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
        except RequestError as error:
            assert 0 < len(str(error).splitlines()) < 4, (seed, str(error))  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"{path.name}, seed {seed}: {error!r}") from error
    assert set(path.parent.iterdir()) == beside


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_images(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    batch = {b"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), b"labels": rng.integers(0, 10, 20).tolist()}
    raw = pickle.dumps(batch, protocol)
    every_case(tmp_path / "batch", raw, lambda: _cifar_files.read_batches(tmp_path, ["batch"], b"labels"))
    names = pickle.dumps({b"label_names": [b"cat", b"dog"]}, protocol)
    every_case(tmp_path / "names", names, lambda: _cifar_files.read_names(tmp_path / "names", b"label_names"))


def test_human_labels(cifar10: Path, tmp_path: Path) -> None:
    path = cifar10 / "CIFAR-10_human.pt"
    every_case(path, path.read_bytes(), lambda: _cifar_files.read_human_labels(path))


def test_glue_tables(tmp_path: Path) -> None:
    write_glue(tmp_path, n_train=30, n_dev=10, tasks=["SST-2"])
    path = tmp_path / "SST-2" / "train.tsv"
    every_case(path, path.read_bytes(), lambda: _glue_files.read(Sst2.data, "train", path.parent))


def test_files_of_arrays(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: values[:40] for name, values in data().items()})
    path = tmp_path / "mine.npz"
    every_case(path, buffer.getvalue(), lambda: _array_file.read(str(path)))


def test_pictures_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture that cannot be read is named; what can be read of it is read."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for k in range(2):
        (folder / f"class{k}").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"class{k}" / f"{i}.png")
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    path = folder / "class0" / "0.png"
    for seed in range(min(CASES // 2, 300)):
        path.write_bytes(scrambled((whole / "class0" / "0.png").read_bytes(), np.random.default_rng(seed)))
        with within(LIMIT):
            code = main(["find", str(folder)])
        told = capsys.readouterr()
        assert code in (0, 2), (seed, told.err)
        assert "Traceback" not in told.err
