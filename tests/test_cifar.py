"""CIFAR-10N and CIFAR-100N: whole tasks on native files, quirks of the paper protocol, and the real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from tasks import _cifar_files as files
from tasks._networks import make_network
from tasks._trained_network import TrainedNetwork
from tasks.cifar import Cifar10N, Cifar100N
from tests.native import official, write_batch


def small(**params: object) -> harness.Task:
    values = {"n_train": None, "n_test": None, "n_validation": 4, "epochs": 2, "batch_size": 8, **params}
    return harness.task("cifar10n", preset="smoke", **values)


@pytest.mark.parametrize(
    ("noise", "methods"),
    [("aggregate", "none,outlier_l1"), ("random", "none,outlier_l1"), ("worst", "all,-leave_one_out")],
)
def test_the_whole_task_on_native_files(
    cifar10: Path, tmp_path_factory: pytest.TempPathFactory, noise: str, methods: str
) -> None:
    out = tmp_path_factory.mktemp("out")
    params = "n_train=none,n_test=none,n_validation=4,epochs=2,batch_size=8,budget=0.1"
    frame = harness.run(methods, f"cifar10n[noise={noise},{params}]", 1, preset="smoke", out=out)
    assert set(frame.loc[frame["status"] != "ok", "method"]) <= {"data_oob", "datamodels"}  # more trainings
    human = files.read_human_labels(cifar10 / "CIFAR-10_human.pt")
    key = {"aggregate": "aggre_label", "random": "random_label1", "worst": "worse_label"}[noise]
    assert frame["n_noisy"].iloc[0] == (human[key] != human["clean_label"]).sum()
    assert "accuracy_best_epoch" in set(frame["metric"])


def test_names_are_the_official_numbers(cifar10: Path) -> None:
    """Of a drawn training set; where all is taken, a sample's position says it."""
    whole, _ = small().load(3)
    assert small().sample_names(3) is None
    drawn = small(n_train=20)
    split, _ = drawn.load(3)
    numbers = [int(name) for name in drawn.sample_names(3)]
    assert len(set(numbers)) == 20
    assert torch.equal(split.train.inputs, whole.train.inputs[numbers])
    assert torch.equal(split.train.labels, whole.train.labels[numbers])


def test_the_published_recipe_runs_from_end_to_end(cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protocol and preset ``paper`` with a ResNet, on the few images there are and for one epoch."""
    task = "cifar10n[model=resnet18,epochs=1,batch_size=16,budget=0.1]"
    out = tmp_path_factory.mktemp("out")
    frame = harness.run("none,outlier_l1,lissa", task, 1, protocol="paper", preset="full", out=out)
    assert set(frame["status"]) == {"ok"}
    health = frame[frame["method"] == "lissa"]["health"].iloc[0]
    assert '"dimension": 5120' in health
    assert '"iterations": 10' in health


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-py/test_batch", "CIFAR-10_human.pt"]
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_damaged_files_are_refused_by_their_checksum(cifar10: Path, name: str, damage: str) -> None:
    content = bytearray((cifar10 / name).read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    (cifar10 / name).write_bytes(
        content if damage == "flipped" else content[: len(content) // 2] if damage == "truncated" else b""
    )
    with pytest.raises(RequestError, match=rf"{Path(name).name} is damaged or another release"):
        small().check()


def test_missing_data_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    both = r"cache.*data_batch_1 is missing; `python -m harness data fetch cifar10n` .*, or put .*--data-dir"
    with pytest.raises(RequestError, match=both):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out")
    with pytest.raises(RequestError, match=r"data_batch_1 is missing"):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out", data_dir=tmp_path)
    with pytest.raises(RequestError, match=r"--data-dir .* is not there"):
        harness.run("none", "cifar10n", 1, out=tmp_path / "out", data_dir=tmp_path / "no")
    assert not (tmp_path / "out").exists()


def test_labels_of_other_images_are_refused(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    human = files.read_human_labels(cifar10 / "CIFAR-10_human.pt")
    reversed_labels = {key: values[::-1].copy() for key, values in human.items()}
    torch.save(reversed_labels, cifar10 / "CIFAR-10_human.pt")
    official(cifar10, Cifar10N, monkeypatch)
    with pytest.raises(RequestError, match="does not belong to these images"):
        small().load(0)


def test_a_bad_label_file_writes_no_results(cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("x") / "out"
    (cifar10 / "CIFAR-10_human.pt").write_bytes(b"")
    with pytest.raises(RequestError, match="damaged"):
        harness.run("none", "cifar10n", 1, preset="smoke", out=out)
    assert not out.exists()


def test_the_paper_protocols_quirks_are_parameters(cifar10: Path) -> None:
    paper, fair = (harness.task("cifar10n", protocol=p, preset="full") for p in ("paper", "fair"))
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
        assert (task.schedule, task.precision) == ("step", "auto")
        assert (task.augment, task.turn, task.budget) == (True, 0.6, 0.05)


def test_reported_accuracy_is_the_last_or_the_best_epochs(cifar10: Path) -> None:
    model = TrainedNetwork(make_network("small_cnn", 10, 0), [0.2, 0.9, 0.4], small().recipe(True), 0)
    assert small(report="last_epoch").evaluate(model, None) == {"accuracy": 0.4, "accuracy_best_epoch": 0.9}
    assert small(report="best_epoch").evaluate(model, None) == {"accuracy": 0.9, "accuracy_best_epoch": 0.9}


def test_augmented_gradients_differ_and_are_reproducible(cifar10: Path) -> None:
    task, plain = small(augment_gradients=True), small()
    split, _ = task.load(0)
    model = task.train(split, None, 3)
    augmented = task.view(model, split).gradients.norm(2)
    assert not np.allclose(augmented, plain.view(model, split).gradients.norm(2))
    np.testing.assert_array_equal(augmented, task.view(model, split).gradients.norm(2))


def test_training_is_reproducible_and_leaves_no_trace(cifar10: Path) -> None:
    task = small()
    split, _ = task.load(0)
    one, two = (task.view(task.train(split, None, 3), split).probs for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_how_many_networks_a_method_may_ask_for(cifar10: Path, tmp_path: Path) -> None:
    sizes = "n_train=40,n_test=12,n_validation=6,epochs=1,model=small_cnn,retrain=no"
    skipped, scored = (
        harness.run(
            "data_oob[n_models=12]", f"cifar10n[{sizes}{more}]", 1, preset="fast", out=tmp_path / (more or "out")
        )
        for more in ("", ",retrainings=12")
    )
    assert set(skipped["error"]) == {"cifar10n allows 10 retrainings for one method's scores; 12 were asked for"}
    assert set(scored["status"]) == {"ok"}


def test_retrained_models_may_start_afresh(cifar10: Path) -> None:
    """As in the reference code; which start it is depends on the kept samples alone."""
    trained = {}
    for fresh in (False, True):
        task = small(fresh_start=fresh)
        split, _ = task.load(0)
        keep = np.arange(len(split.train)) % 7 > 0
        trained[fresh] = [task.train(split, kept, 5) for kept in (None, keep, keep.copy())]

    base, first, again = ([_weights(models[k]) for models in trained.values()] for k in range(3))
    assert torch.equal(base[0], base[1])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[1], again[1])
    assert harness.task("cifar10n", protocol="paper").fresh_start


def _weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def test_clean_labels_are_a_noise_setting(cifar10: Path) -> None:
    split, truth = small(noise="clean").load(0)
    np.testing.assert_array_equal(split.train.labels, truth)


@pytest.mark.slow
def test_cifar_100_from_native_files(cifar100: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All methods on a hundred classes: nothing of a class, or a single sample, breaks none."""
    out = tmp_path_factory.mktemp("out")
    params = "n_train=none,n_test=none,n_validation=20,epochs=2,batch_size=32"
    frame = harness.run("all,-leave_one_out", f"cifar100n[{params}]", 1, preset="smoke", out=out)
    assert set(frame.loc[frame["status"] != "ok", "method"]) == {"data_oob", "datamodels"}  # more trainings
    human = files.read_human_labels(cifar100 / "CIFAR-100_human.pt")
    assert frame["n_noisy"].iloc[0] == (human["noisy_label"] != human["clean_label"]).sum()
    task = harness.task("cifar100n", preset="smoke", n_train=50, n_test=40, n_validation=10)
    split, _ = task.load(0)
    assert (split.n_classes, len(split.train), len(split.test)) == (100, 50, 30)
    assert task.class_names()[:2] == ["class 0", "class 1"]


def test_a_shortened_cifar_100_serves_for_what_it_holds(cifar100: Path) -> None:
    """The first images of the official files, in their layout, as long as no more is asked for."""
    folder, release = cifar100, Cifar100N.release
    for name in (*release.train, *release.test):
        images, labels = files.read_batches(folder, [name], release.label_key)
        write_batch(folder / name, images[:60], labels[:60], release.label_key)
    few = {"preset": "smoke", "n_validation": 10}
    split, truth = harness.task("cifar100n", n_train=50, n_test=50, **few).load(0)
    assert (len(split.train), len(split.test), len(truth)) == (50, 40, 50)
    with pytest.raises(RequestError, match=r"train holds 60 of the 120 images and n_train asks for 61; give n_train"):
        harness.task("cifar100n", n_train=61, n_test=50, **few).check()
    with pytest.raises(RequestError, match=r"test holds 60 of the 120 images and n_test asks for all"):
        harness.task("cifar100n", n_train=50, n_test=None, **few).check()
    images, labels = files.read_batches(folder, release.train, release.label_key)
    write_batch(folder / release.train[0], images, labels[::-1], release.label_key)
    with pytest.raises(RequestError, match="does not belong to these images"):
        harness.task("cifar100n", n_train=50, n_test=50, **few).load(0)


@pytest.mark.parametrize("name", ["cifar-100-python/train", "cifar-100-python/meta", "CIFAR-100_human.pt"])
def test_damaged_cifar_100_files_are_refused(cifar100: Path, name: str) -> None:
    content = bytearray((cifar100 / name).read_bytes())
    content[len(content) // 2] ^= 1
    (cifar100 / name).write_bytes(content)
    with pytest.raises(RequestError, match=rf"{Path(name).name} is damaged or another release"):
        harness.task("cifar100n", preset="smoke", n_train=50, n_test=50, n_validation=10).check()


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


def test_real_cifar_100(data_dir: Path) -> None:
    """The part of the official files that is there: labels belong to images, 40 % of them wrong."""
    if not (data_dir / "cifar-100-python").is_dir():
        pytest.skip("HARNESS_DATA has no cifar-100-python")
    task = harness.task("cifar100n", preset="smoke", n_train=5000, n_test=1000)
    split, truth = task.load(0)
    assert (split.train.labels.numpy() != truth).mean() == pytest.approx(0.4, abs=0.02)
    assert task.class_names()[:3] == ["apple", "aquarium_fish", "baby"]
