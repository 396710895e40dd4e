"""Probes: a head on a frozen encoder's features, from images to a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import harness
from harness.interfaces.uses import observed
from harness.running.services import training
from tests.array_files import save
from tests.conftest import trained_view

SIZES = "n_train=300,n_test=200,n_validation=100,pixels=32"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def probe(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """A probe on small CIFAR files, with its split and a view that can retrain."""
    pytest.importorskip("efficientnet_lite_pytorch")
    task = harness.task("cifar10n[model=probe,tolerance=1e-7,n_train=60,n_test=12,n_validation=6,pixels=32]")
    split, _ = task.load(0)
    base = task.train(split, None, 1)
    return task, split, task.view(base, split).fresh(0, training(task, split, 1, 2))


def test_a_retraining_is_scikit_learns_optimum(probe: tuple[Any, Any, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    task, split, _ = probe
    keep = np.arange(60) % 5 > 0
    head = task.train(split, keep, 1)
    x, y = split.train.inputs.values.double().numpy(), split.train.labels.numpy()
    penalty = split.train.inputs.fitted["penalty"]

    expected = LogisticRegression(C=1 / (penalty * keep.sum()), tol=1e-10, max_iter=50_000).fit(x[keep], y[keep])

    probs = task.outputs(head, split.train).class_probs()
    columns = expected.classes_
    np.testing.assert_allclose(probs[:, columns], expected.predict_proba(x), atol=1e-4)


def test_label_sets_train_together_as_they_do_alone(probe: tuple[Any, Any, Any]) -> None:
    """Relabelled copies of one split are one program; every head is the optimum of its own labels."""
    task, split, _ = probe
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(3):
        labels = split.train.labels.clone()
        some = torch.from_numpy(rng.choice(len(labels), 40, replace=False))
        labels[some] = (labels[some] + 1) % split.n_classes
        splits.append(replace(split, train=replace(split.train, labels=labels)))
    everything = np.ones(len(split.train), dtype=bool)

    together = [model for models in task.train_all([(s, [everything], 0) for s in splits]) for model in models]
    alone = [next(task.train_all([(s, [everything], 0)]))[0] for s in splits]

    for joint, single in zip(together, alone, strict=True):
        torch.testing.assert_close(joint.outputs(split.test).probs, single.outputs(split.test).probs, atol=2e-3, rtol=0)
    assert not torch.allclose(together[0].head.weight, together[1].head.weight, atol=1e-2)


def test_what_methods_see_of_a_probe(probe: tuple[Any, Any, Any]) -> None:
    _, _, view = probe
    logits = view.model(view.inputs)
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), view.probs, atol=1e-5)
    assert view.features.shape == (60, 1280)
    assert len(view.dynamics) >= 3
    np.testing.assert_allclose(view.dynamics.probs_at(-1), view.probs, atol=5e-3)
    for name in ("aum", "tracin_cp", "self_influence", "confident_learning", "data_oob[n_models=30]", "knn_shapley"):
        assert np.isfinite(harness.method(name).score(view)).all(), name


def test_a_hidden_layer(cifar10: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    task = harness.task("cifar10n[model=probe,width=8,n_train=60,n_test=12,n_validation=6,pixels=32]")
    split, _ = task.load(0)
    model = task.train(split, None, 1)
    outputs = task.outputs(model, split.train)
    assert outputs.features is not None
    assert outputs.features.shape == (60, 8)
    logits = task.module(model, split)(task.module_inputs(split.train))
    np.testing.assert_allclose(logits.softmax(1).detach(), outputs.probs, atol=1e-5)
    again = task.train(split, None, 1)
    assert torch.equal(again.head.head.weight, model.head.head.weight)
    kept = task.train(split, np.arange(60) < 30, 1)
    assert not torch.equal(kept.head.head.weight, model.head.head.weight)
    assert 0 <= task.evaluate(model, split)["accuracy"] <= 1


def test_a_run_removes_and_relabels(cifar10: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    out = tmp_path / "out"
    task = "cifar10n[n_train=60,n_test=12,n_validation=6,pixels=32,budget=0.1|0.3,repair=remove|relabel]"
    frame = harness.run("self_confidence,outlier_l2,random,none", task, 2, preset="probe", out=out)

    assert set(frame["status"]) == {"ok"}, set(frame["error"])
    assert set(frame["task_title"]) == {"CIFAR-10N, a head on efficientnet_lite0 at 32 pixels"}
    assert (frame[frame["metric"] == "gradient_norm"]["value"] <= 1e-4).all()
    assert frame[frame["metric"] == "accuracy"].shape[0] == 4 * 4 * 2


@pytest.mark.parametrize("probs", [False, True])
def test_own_images(folder: Path, probs: bool) -> None:
    """A file of images; with the user's own probabilities, methods see these instead of the probe's."""
    pytest.importorskip("efficientnet_lite_pytorch")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pictures = (rng.integers(0, 80, (60, 12, 12, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    arrays: dict[str, np.ndarray] = {"labels": labels[:40], "images": pictures[:40], "true_labels": labels[:40]}
    arrays |= {"test_labels": labels[40:], "test_images": pictures[40:]}
    if probs:
        arrays["probs"] = np.full((40, 3), 1 / 3)
    path = save(folder, **arrays)

    own = f"arrays[path={path},model=probe,pixels=32]"
    frame = harness.run("random,normalized_margin,none", own, 1, out=folder / "out")

    assert set(frame["status"]) == {"ok"}, set(frame["error"])
    accuracy = frame[(frame["metric"] == "accuracy") & (frame["method"] == "random")]["value"].item()
    assert accuracy > 0.8
    task = harness.task(own)
    split, _ = task.load(0)
    assert task.pictures(split, np.array([3])).shape == (1, 12, 12, 3)
    view = task.view(task.train(split, None, 0), split)
    assert np.allclose(view.probs, 1 / 3) == probs


def test_neighbours_of_the_encoder_beside_a_network(cifar10: Path) -> None:
    """A network's task offers the frozen encoder's features; a method that takes them says so."""
    pytest.importorskip("efficientnet_lite_pytorch")
    sizes = "n_train=60,n_test=12,n_validation=6,pixels=32"
    task = harness.task(f"cifar10n[{sizes},epochs=1]", preset="smoke")
    split, _ = task.load(0)
    view = task.view(task.train(split, None, 0), split)
    method = harness.method("knn_labels", of="encoder", k=3)

    scores = method.score(view)

    assert view.encoder_features.shape == (60, 1280)
    assert method.uses == observed(view.used) == ("labels", "encoder")
    probe = harness.task(f"cifar10n[model=probe,{sizes}]")
    seen, _ = probe.load(0)
    on_probe = probe.view(probe.train(seen, None, 0), seen)
    np.testing.assert_array_equal(harness.method("knn_labels", k=3).score(on_probe), scores)
    with pytest.raises(harness.Unsupported, match="moons has no frozen encoder"):
        method.score(trained_view("moons")[2])


@pytest.mark.data
@pytest.mark.slow
def test_exact_influence_is_what_leaving_one_out_does(data_dir: Path) -> None:
    """200 retrainings without one sample each, to a gradient of 1e-9, against one linear system."""
    pytest.importorskip("efficientnet_lite_pytorch")
    sizes = "n_train=1500,n_test=2000,n_validation=1000,pixels=64"
    task = harness.task(f"cifar10n[noise=worst,model=probe,tolerance=1e-9,penalty=0.05,{sizes}]")
    split, _ = task.load(0)
    base = task.train(split, None, 0)
    view = task.view(base, split).fresh(0, training(task, split, 0, 1))
    chosen = np.random.default_rng(0).choice(1500, 200, replace=False)
    keeps = np.ones((200, 1500), dtype=bool)
    keeps[np.arange(200), chosen] = False

    influence = harness.method("exact_hessian", damping=0.05).score(view)
    lowered = task.outputs(base, split.references["validation"]).losses().mean() - view.retrain(keeps, "validation")

    assert spearmanr(influence[chosen], lowered)[0] > 0.95
