"""CIFAR-10N: official formats, damage, malice, quirks of the paper protocol, and the real files where they are."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from tasks import _cifar_files as files
from tasks import _images
from tasks._networks import CifarResNet, SmallCNN, make_network

PER_BATCH = 12


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """In the official layout: protocol 2, byte keys, rows of 3072."""
    content = {b"batch_label": b"x", b"labels": labels.tolist(), b"data": images.reshape(len(images), -1)}
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_labels(path: Path, arrays: dict[str, np.ndarray]) -> None:
    torch.save(arrays, path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data folder in the official formats, whose checksums count as official."""
    rng = np.random.default_rng(0)
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    clean = []
    for name in files.CIFAR10_MD5:
        labels = rng.permutation(np.arange(PER_BATCH) % 10)
        write_batch(batches / name, rng.integers(0, 256, (PER_BATCH, 3, 32, 32), dtype=np.uint8), labels)
        clean += labels.tolist() if name != "test_batch" else []
    truth = np.array(clean)
    noisy = {key: np.where(rng.random(len(truth)) < 0.4, (truth + 1) % 10, truth) for key in
             ("aggre_label", "worse_label", "random_label1", "random_label2", "random_label3")}  # fmt: skip
    write_labels(tmp_path / "CIFAR-10_human.pt", {"clean_label": truth, **noisy})
    official(tmp_path, monkeypatch)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path


def official(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files as they are now for the official ones."""

    def md5(path: Path) -> str:
        return hashlib.md5(path.read_bytes()).hexdigest()

    sums = {name: md5(folder / "cifar-10-batches-py" / name) for name in files.CIFAR10_MD5}
    monkeypatch.setattr(files, "CIFAR10_MD5", sums)
    monkeypatch.setattr(files, "CIFAR10N_MD5", {"CIFAR-10_human.pt": md5(folder / "CIFAR-10_human.pt")})


def small(**params: object) -> harness.Task:
    values = {"n_train": None, "n_test": None, "n_validation": 4, "epochs": 2, "batch_size": 8, **params}
    return harness.task("cifar10n", preset="smoke", **values)


def test_native_files_are_read_in_order(folder: Path) -> None:
    batches = folder / "cifar-10-batches-py"
    images, labels = files.read_batches(batches, ["data_batch_2", "data_batch_1"])
    raw = pickle.loads((batches / "data_batch_2").read_bytes(), encoding="bytes")
    assert images.shape == (2 * PER_BATCH, 3, 32, 32)
    np.testing.assert_array_equal(images[3].ravel(), raw[b"data"][3])
    assert labels[:PER_BATCH].tolist() == raw[b"labels"]


@pytest.mark.parametrize("noise", ["aggregate", "random", "worst"])
def test_the_whole_task_on_native_files(folder: Path, tmp_path_factory: pytest.TempPathFactory, noise: str) -> None:
    out = tmp_path_factory.mktemp("out")
    params = "n_train=none,n_test=none,n_validation=4,epochs=2,batch_size=8,budget=0.1"
    frame = harness.run("all,-leave_one_out", f"cifar10n[noise={noise},{params}]", 1, preset="smoke", out=out)
    assert set(frame["status"]) == {"ok"}
    human = files.read_human_labels(folder / "CIFAR-10_human.pt")
    key = {"aggregate": "aggre_label", "random": "random_label1", "worst": "worse_label"}[noise]
    assert frame["n_noisy"].iloc[0] == (human[key] != human["clean_label"]).sum()
    assert "accuracy_best_epoch" in set(frame["metric"])


def test_the_published_recipe_runs_from_end_to_end(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protocol and preset ``paper`` with a ResNet, on the few images there are and for one epoch."""
    task = "cifar10n[model=resnet18,epochs=1,batch_size=16,budget=0.1]"
    out = tmp_path_factory.mktemp("out")
    frame = harness.run("none,outlier_l1,lissa", task, 1, protocol="paper", preset="paper", out=out)
    assert set(frame["status"]) == {"ok"}
    health = frame[frame["method"] == "lissa"]["health"].iloc[0]
    assert '"dimension": 5120' in health
    assert '"iterations": 10' in health


def test_missing_data_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    with pytest.raises(RequestError, match=r"cifar10n needs its data: put .*--data-dir"):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out")
    with pytest.raises(RequestError, match=r"data_batch_1 is missing"):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out", data_dir=tmp_path)
    with pytest.raises(RequestError, match=r"--data-dir .* is not there"):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out", data_dir=tmp_path / "no")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-py/test_batch", "CIFAR-10_human.pt"]
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_damaged_files_are_refused_by_their_checksum(folder: Path, name: str, damage: str) -> None:
    content = bytearray((folder / name).read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    (folder / name).write_bytes(
        content if damage == "flipped" else content[: len(content) // 2] if damage == "truncated" else b""
    )
    with pytest.raises(RequestError, match=rf"{Path(name).name} is damaged or another release"):
        small().check()


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch /tmp/harness-was-here",))


def test_a_pickle_that_imports_something_is_refused(folder: Path) -> None:
    witness = Path("/tmp/harness-was-here")
    witness.unlink(missing_ok=True)
    batches = folder / "cifar-10-batches-py"
    (batches / "data_batch_1").write_bytes(pickle.dumps({b"data": Malice(), b"labels": []}, protocol=2))
    with pytest.raises(RequestError, match=r"data_batch_1 cannot be read: it asks for posix\.system"):
        files.read_batches(batches, ["data_batch_1"])
    with zipfile.ZipFile(folder / "CIFAR-10_human.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"clean_label": Malice()}, protocol=2))
    with pytest.raises(RequestError, match=r"it asks for posix\.system"):
        files.read_human_labels(folder / "CIFAR-10_human.pt")
    assert not witness.exists()


@pytest.mark.parametrize("evil", [eval, exec, open, __import__, np.load, np.fromfile, torch.load])
def test_no_function_gets_through(folder: Path, evil: object) -> None:
    path = folder / "evil"
    path.write_bytes(pickle.dumps({b"data": evil}, protocol=2))
    with pytest.raises(RequestError, match="it asks for"):
        files.read_batches(folder, ["evil"])


def test_files_of_another_content_get_one_sentence(folder: Path) -> None:
    path = folder / "other"
    for content, sentence in [
        (pickle.dumps([1, 2], 2), "is no CIFAR-10 batch"),
        (pickle.dumps({b"data": [[1]], b"labels": [1]}, 2), "is no CIFAR-10 batch: images of shape"),
        (b"not a pickle", "cannot be read"),
        (b"", "cannot be read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(RequestError, match=sentence):
            files.read_batches(folder, ["other"])
    for arrays, sentence in [
        ({"clean_label": np.zeros(3, int), "worse_label": np.zeros(4, int)}, "differ in length"),
        ([1, 2], "is no CIFAR-N label file"),
        ({"clean_label": "text"}, "is no CIFAR-N label file"),
    ]:
        write_labels(path, arrays)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match=sentence):
            files.read_human_labels(path)
    path.write_bytes(b"no zip")
    with pytest.raises(RequestError, match="is no PyTorch file"):
        files.read_human_labels(path)


def test_labels_of_other_images_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    human = files.read_human_labels(folder / "CIFAR-10_human.pt")
    write_labels(folder / "CIFAR-10_human.pt", {key: values[::-1].copy() for key, values in human.items()})
    official(folder, monkeypatch)
    with pytest.raises(RequestError, match="does not belong to these images"):
        small().load(0)


def test_a_bad_label_file_writes_no_results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("x") / "out"
    (folder / "CIFAR-10_human.pt").write_bytes(b"")
    with pytest.raises(RequestError, match="damaged"):
        harness.run("none", "cifar10n", 1, preset="smoke", out=out)
    assert not out.exists()


def test_the_paper_protocols_quirks_are_parameters(folder: Path) -> None:
    paper, fair = (harness.task("cifar10n", protocol=p, preset="paper") for p in ("paper", "fair"))
    assert (paper.shuffle_base, paper.shuffle_retrained, paper.report) == (False, True, "best_epoch")
    assert (paper.augment_gradients, paper.n_validation) == (True, 0)
    assert (fair.shuffle_base, fair.report, fair.augment_gradients, fair.n_validation) == (
        True,
        "last_epoch",
        False,
        1000,
    )
    for task in (paper, fair):
        assert (task.model, task.epochs, task.batch_size, task.lr, task.weight_decay) == (
            "resnet34",
            100,
            128,
            0.1,
            5e-4,
        )
        assert (task.augment, task.decay_after, task.budget) == (True, 0.6, 0.05)


def test_shuffle_decides_whether_the_seed_orders_batches(folder: Path) -> None:
    orders: list[list[int]] = []

    class Spy(SmallCNN):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                orders[-1] += images[:, 0, 0, 0].tolist()
            return super().forward(images)

    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 32, 32)
    labels = torch.arange(20) % 10
    for shuffle, seed in [(False, 0), (False, 1), (True, 0), (True, 1)]:
        orders.append([])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Spy(10)
        _images.fit(network, images, labels, _images.SGDRecipe(1, 5, 0.01, 0.0, 0.6, False, shuffle), seed)
    assert orders[0] == orders[1] == sorted(orders[0])
    assert orders[2] != orders[3]
    assert sorted(orders[2]) == sorted(orders[3]) == orders[0]


def test_reported_accuracy_is_the_last_or_the_best_epochs(folder: Path) -> None:
    from tasks.cifar import TrainedNetwork

    model = TrainedNetwork(make_network("small_cnn", 10, 0), [0.2, 0.9, 0.4], 0)
    assert small(report="last_epoch").evaluate(model, None) == {"accuracy": 0.4, "accuracy_best_epoch": 0.9}
    assert small(report="best_epoch").evaluate(model, None) == {"accuracy": 0.9, "accuracy_best_epoch": 0.9}


def test_augmented_gradients_differ_and_are_reproducible(folder: Path) -> None:
    task, plain = small(augment_gradients=True), small()
    split, _ = task.load(0)
    model = task.train(split, None, 3)
    augmented = task.view(model, split).gradients.norm(2)
    assert not np.allclose(augmented, plain.view(model, split).gradients.norm(2))
    np.testing.assert_array_equal(augmented, task.view(model, split).gradients.norm(2))


def test_augmentation_crops_and_flips() -> None:
    """Every augmented image is a window of its black-padded original, mirrored or not; both happen, offsets vary."""
    images = torch.randint(1, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made = _images.augmented(images, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    found = []
    for i in range(40):
        for mirrored in (False, True):
            target = made[i].flip(2) if mirrored else made[i]
            found += [
                (top, left, mirrored)
                for top in range(9)
                for left in range(9)
                if torch.equal(padded[i, :, top : top + 32, left : left + 32], target)
            ]
    assert len(found) == 40
    assert {m for _, _, m in found} == {False, True}
    assert len({(top, left) for top, left, _ in found}) > 20


def test_training_is_reproducible_and_leaves_no_trace(folder: Path) -> None:
    task = small()
    split, _ = task.load(0)
    one, two = (task.view(task.train(split, None, 3), split).probs for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_resnets_are_the_cifar_form() -> None:
    for name, millions in (("resnet18", 11.17), ("resnet34", 21.28)):
        network = make_network(name, 10, 0)
        assert isinstance(network, CifarResNet)
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
        assert network.features(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
        assert network.blocks(torch.zeros(2, 64, 32, 32)).shape == (2, 512, 4, 4)


def test_real_files(data_dir: Path) -> None:
    """The official release: checksums, counts, noise rates, and that labels belong to images."""
    rates = {"aggregate": 0.0901, "random": 0.1723, "worst": 0.4021}
    for noise, rate in rates.items():
        task = harness.task("cifar10n", noise=noise, n_validation=500)
        task.check()
        split, truth = task.load(0)
        assert len(split.train) == 50_000
        assert len(split.test) == 9_500
        assert (split.train.labels.numpy() != truth).mean() == pytest.approx(rate, abs=5e-4)
        held = split.references["validation"].labels
        noisy = split.references["noisy_validation"].labels
        assert (held != noisy).double().mean() == pytest.approx(rate, abs=0.07)


def test_real_images_and_human_labels_separate(data_dir: Path) -> None:
    """A smoke training on real data: what self-confidence flags is far more often wrong than chance."""
    task = harness.task("cifar10n", preset="smoke", noise="worst", n_train=2000, n_test=600, n_validation=100)
    split, truth = task.load(0)
    view = task.view(task.train(split, None, 0), split)
    noisy = truth != view.labels
    flagged = np.argsort(-harness.method("self_confidence").score(view))[:100]
    assert noisy[flagged].mean() > noisy.mean() + 0.3
