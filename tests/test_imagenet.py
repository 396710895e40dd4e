"""The ImageNet subset: class folders of images in several formats and shapes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.records.store import Store
from tasks._image_files import square
from tasks._networks import make_network


def small(**params: object) -> harness.Task:
    values = {"per_class": 5, "n_test": 9, "n_validation": 3, "epochs": 2, "batch_size": 8, "size": 32, **params}
    return harness.task("imagenet_subset", preset="smoke", **values)


def test_images_and_labels_belong_together(imagenet: Path) -> None:
    """Each class's images have its colour, whatever their format and shape."""
    split, truth = small().load(0)
    pixels = split.train.inputs
    assert pixels.shape == (15, 3, 37, 37)
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels.double().mean((2, 3)).argmax(1), truth)
    for samples in (split.test, split.references["validation"]):
        np.testing.assert_array_equal(samples.inputs.double().mean((2, 3)).argmax(1), samples.labels)
    assert (len(split.test), len(split.references["validation"])) == (6, 3)
    assert np.bincount(truth).tolist() == [5, 5, 5]
    assert (split.train.labels.numpy() != truth).sum() == 6  # 40 % of 5, in each of three classes
    for label in range(3):
        assert (split.train.labels.numpy()[truth == label] != label).sum() == 2


def test_seeds_draw_images_and_flips(imagenet: Path) -> None:
    one, same, other = (small().load(seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert torch.equal(one.train.labels, same.train.labels)
    assert not torch.equal(one.train.labels, other.train.labels)


def test_suspects_are_files(
    imagenet: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names belong to the images and labels beside them, whatever order the images were drawn in."""
    task, out = small(), str(tmp_path_factory.mktemp("out"))
    split, truth = task.load(7)
    names = task.sample_names(7)
    assert len(set(names)) == 15
    for pixels, label, name in zip(split.train.inputs, truth, names, strict=True):
        assert name.startswith(f"imagenet/train/n0{label + 1}/")
        np.testing.assert_array_equal(pixels, square(imagenet / name, 37))
    params = "per_class=5,n_test=9,n_validation=3,epochs=1,batch_size=8,budget=0.2"
    harness.run("outlier_l1", f"imagenet_subset[{params}]", 1, preset="smoke", out=out)
    assert main(["suspects", out, "--method", "outlier_l1", "--format", "csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(frame.columns) == ["rank", "index", "suspicion", "score", "flagged", "name", "given", "true"]
    assert (frame["name"].str.split("/").str[2] == frame["true"]).all()


def test_other_files_are_other_data(imagenet: Path) -> None:
    """A name more, less or changed moves what a seed draws, though the counts may stay."""
    before = small().data_version()
    assert before == small(per_class=2).data_version() != ""
    (imagenet / "imagenet" / "train" / "n02" / "3.JPEG").rename(imagenet / "imagenet" / "train" / "n02" / "zz.JPEG")
    assert small().data_version() != before


def test_other_content_under_the_same_name_is_other_data(imagenet: Path) -> None:
    before = small().data_version()
    (imagenet / "imagenet" / "train" / "n02" / "3.JPEG").write_bytes(b"another image")
    os.utime(imagenet / "imagenet" / "train" / "n02")
    changed = small().data_version()
    (imagenet / "start.pth").write_bytes(b"weights")
    with_weights = small(model="resnet18", weights="start.pth").data_version()
    (imagenet / "start.pth").write_bytes(b"other weights")

    assert before != changed
    assert changed != with_weights != small(model="resnet18", weights="start.pth").data_version()


@pytest.mark.slow
def test_without_a_compiler_it_says_so(imagenet: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert small(compiled=True).recipe(shuffle=True).compiled
    out, cache = (str(tmp_path_factory.mktemp(name)) for name in ("out", "cache"))
    task = "imagenet_subset[per_class=5,n_test=9,n_validation=3,epochs=1,batch_size=8,compiled=yes]"
    command = [sys.executable, "-m", "harness", "run", "--methods", "none", "--tasks", task, "--preset", "smoke"]
    done = subprocess.run(
        [*command, "--seeds", "1", "--device", "cpu", "--out", out],
        env={**os.environ, "CXX": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": cache},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    (record,) = Store(out).records()
    assert record[0].status == "skipped", done.stderr
    assert re.match(r"compiled=yes, and PyTorch cannot compile here: .*compiler", record[0].error)


def test_the_whole_task(imagenet: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    task = "imagenet_subset[per_class=5,n_test=none,n_validation=3,epochs=2,batch_size=8,budget=0.2]"
    frame = harness.run("all,-leave_one_out", task, 1, preset="smoke", out=out)
    assert set(frame.loc[frame["status"] != "ok", "method"]) <= {"data_oob", "datamodels"}  # more trainings
    assert set(frame["n_flagged"].dropna()) == {0, 3}


@pytest.mark.parametrize("size", [64, 72])
def test_published_weights_are_a_start(imagenet: Path, size: int) -> None:
    state = make_network("resnet18", 3, 5, large=True).state_dict()
    named = {key.replace("head.", "fc.").removeprefix("body."): value for key, value in state.items()}
    torch.save(named, imagenet / "start.pth")
    task = small(model="resnet18", size=size, weights="start.pth")
    task.check()
    for key, value in task.network(3, 0).state_dict().items():
        assert torch.equal(value, state[key])
    for wrong in ("none.pth", "../start.pth", "/etc/passwd"):
        with pytest.raises(RequestError, match=r"weights=.* is no file in the data folder"):
            small(model="resnet18", weights=wrong).check()


def test_wrong_folders_get_one_sentence(imagenet: Path) -> None:
    with pytest.raises(RequestError, match=r"n0. holds 6 images and per_class asks for 7"):
        small(per_class=7).check()
    with pytest.raises(RequestError, match=r"val holds 12 images; n_test=13"):
        small(n_test=13).load(0)
    (imagenet / "imagenet" / "val" / "n04").mkdir()
    with pytest.raises(RequestError, match=r"val has other classes than imagenet/train: n04"):
        small().check()
    (imagenet / "imagenet" / "val" / "n04").rmdir()
    flat = imagenet / "imagenet" / "val"
    flat.rename(imagenet / "kept")
    flat.mkdir()
    with pytest.raises(RequestError, match=r"val holds no class folders"):
        small().check()
    flat.rmdir()
    (imagenet / "kept").rename(flat)
    (imagenet / "imagenet" / "train" / "n01" / "1.JPEG").write_bytes(b"no image")
    with pytest.raises(RequestError, match=r"n01/1\.JPEG cannot be read as an image"):
        small(per_class=6).load(0)


def test_missing_data_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=r"imagenet_subset needs its data: .*train is missing; .*--data-dir"):
        small().check()
