"""Reading the published CIFAR and CIFAR-N files: order, damage, malice."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import RequestError
from tasks import _cifar_files as files
from tests.native import PER_FILE


def test_native_files_are_read_in_order(cifar10: Path) -> None:
    batches = cifar10 / "cifar-10-batches-py"
    images, labels = files.read_batches(batches, ["data_batch_2", "data_batch_1"], b"labels")
    raw = pickle.loads((batches / "data_batch_2").read_bytes(), encoding="bytes")
    assert images.shape == (2 * PER_FILE, 3, 32, 32)
    np.testing.assert_array_equal(images[3].ravel(), raw[b"data"][3])
    assert labels[:PER_FILE].tolist() == raw[b"labels"]


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch /tmp/harness-was-here",))


def test_a_pickle_that_imports_something_is_refused(cifar10: Path) -> None:
    witness = Path("/tmp/harness-was-here")
    witness.unlink(missing_ok=True)
    batches = cifar10 / "cifar-10-batches-py"
    (batches / "data_batch_1").write_bytes(pickle.dumps({b"data": Malice(), b"labels": []}, protocol=2))
    with pytest.raises(RequestError, match=r"data_batch_1 cannot be read: it asks for posix\.system"):
        files.read_batches(batches, ["data_batch_1"], b"labels")
    with zipfile.ZipFile(cifar10 / "CIFAR-10_human.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"clean_label": Malice()}, protocol=2))
    with pytest.raises(RequestError, match=r"it asks for posix\.system"):
        files.read_human_labels(cifar10 / "CIFAR-10_human.pt")
    assert not witness.exists()


@pytest.mark.parametrize("evil", [eval, exec, open, __import__, np.load, np.fromfile, torch.load])
def test_no_function_gets_through(cifar10: Path, evil: object) -> None:
    path = cifar10 / "evil"
    path.write_bytes(pickle.dumps({b"data": evil}, protocol=2))
    with pytest.raises(RequestError, match="it asks for"):
        files.read_batches(cifar10, ["evil"], b"labels")


def test_files_of_another_content_get_one_sentence(cifar10: Path) -> None:
    path = cifar10 / "other"
    for content, sentence in [
        (pickle.dumps([1, 2], 2), "is no CIFAR batch"),
        (pickle.dumps({b"data": [[1]], b"labels": [1]}, 2), "is no CIFAR batch: images of shape"),
        (pickle.dumps({b"data": [[1]], b"labels": [2**70]}, 2), "is no CIFAR batch"),
        (pickle.dumps(np.zeros(3), 2), "is no CIFAR batch"),
        (b"not a pickle", "cannot be read"),
        (b"", "cannot be read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(RequestError, match=sentence):
            files.read_batches(cifar10, ["other"], b"labels")
    for arrays, sentence in [
        ({"clean_label": np.zeros(3, int), "worse_label": np.zeros(4, int)}, "differ in length"),
        ([1, 2], "is no CIFAR-N label file"),
        ({"clean_label": "text"}, "is no CIFAR-N label file"),
    ]:
        torch.save(arrays, path)
        with pytest.raises(RequestError, match=sentence):
            files.read_human_labels(path)
    path.write_bytes(b"no zip")
    with pytest.raises(RequestError, match="is no PyTorch file"):
        files.read_human_labels(path)


def test_class_names(cifar10: Path) -> None:
    meta = files.CIFAR10N.meta
    assert files.read_names(cifar10 / meta, files.CIFAR10N.names_key) == [f"class {i}" for i in range(10)]
    with pytest.raises(RequestError, match=r"batches\.meta holds no class names"):
        files.read_names(cifar10 / meta, b"other")
