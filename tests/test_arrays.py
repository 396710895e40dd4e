"""The task ``arrays``: a user's own file, and the list of suspects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.cli import main
from harness.testing import check_all
from tests.array_files import data, save


def probabilities(n: int, c: int = 10) -> np.ndarray:
    probs = np.random.default_rng(1).random((n, c))
    return probs / probs.sum(1, keepdims=True)


def test_features_with_everything(tmp_path: Path) -> None:
    path = save(tmp_path, **data())
    frame = harness.run("all,-leave_one_out", f"arrays[path={path}]", 1, preset="smoke", out=tmp_path / "r")
    assert set(frame["status"]) == {"ok"}
    values = frame.pivot_table(index="method", columns="metric", values="value")
    assert values.loc["self_confidence", "auroc"] > 0.9
    assert values.loc["outlier_l2", "accuracy"] > values.loc["none", "accuracy"]
    for model in ("linear", "mlp[width=8]"):
        name, _, rest = model.partition("[")
        task = harness.task("arrays", preset="smoke", path=path, model=name, **({"width": 8} if rest else {}))
        assert [r.check.name for r in check_all(task) if r.bad] == []


def test_standardised_by_the_training_samples(tmp_path: Path) -> None:
    arrays = data()
    task = harness.task("arrays", path=save(tmp_path, **arrays))
    split, truth = task.load(0)
    x = arrays["features"].astype(np.float32)
    deviation = np.where(x.std(0) > 0, x.std(0), 1)
    np.testing.assert_allclose(split.train.inputs.numpy(), (x - x.mean(0)) / deviation, rtol=1e-4, atol=1e-5)
    held = (arrays["test_features"] - x.mean(0)) / deviation
    np.testing.assert_allclose(split.test.inputs.numpy(), held, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(truth, arrays["true_labels"])
    raw = harness.task("arrays", path=task.path, standardise=False).load(0)[0].train.inputs.numpy()
    np.testing.assert_array_equal(raw, x)


def test_labels_alone_suffice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = data()
    path = save(tmp_path, features=arrays["features"], labels=arrays["labels"])
    out = str(tmp_path / "r")
    assert main(["run", "--methods", "self_confidence,datainf", "--tasks", f"arrays[path={path}]", "--preset", "smoke",
                 "--seeds", "2", "--out", out]) == 0  # fmt: skip
    text = " ".join(capsys.readouterr().out.split())
    assert "no true labels are known" in text
    assert "skipped in 2 of 2 seeds: there is no reference set 'validation' here" in text
    frame = harness.load_results(out)
    assert set(frame.loc[frame["status"] == "ok", "metric"]) == {None}
    assert main(["report", out, "--output", str(tmp_path / "report.md")]) == 0
    assert main(["suspects", out, "--method", "self_confidence", "--top", "30"]) == 0


def test_given_probabilities_are_the_view(tmp_path: Path) -> None:
    arrays = data()
    probs = probabilities(300)
    path = save(tmp_path, probs=probs, labels=arrays["labels"], features=arrays["features"],
                validation_probs=probabilities(150), validation_labels=arrays["validation_labels"],
                validation_features=arrays["validation_features"])  # fmt: skip
    task = harness.task("arrays", path=path)
    split, truth = task.load(0)
    assert truth is None
    view = task.view(task.train(split, None, 0), split)
    expected = harness.View.from_arrays(arrays["features"].astype(np.float32), probs,
                                        arrays["labels"], arrays["validation_features"].astype(np.float32),
                                        probabilities(150), arrays["validation_labels"],
                                        bias=True)  # fmt: skip
    for name in ("self_confidence", "outlier_l2", "datainf"):
        np.testing.assert_array_equal(harness.method(name).score(view), harness.method(name).score(expected))
    assert task.evaluate(None, split) == {}
    frame = harness.run("all", f"arrays[path={path}]", 1, out=tmp_path / "r")
    status = frame.set_index("method")["status"]
    assert status["leave_one_out"] == "ok"  # by models of ours, on the features
    assert status["datainf"] == "ok"


def test_retraining_beside_given_probabilities_is_of_our_own_model(tmp_path: Path) -> None:
    arrays = data()
    probs = probabilities(300)
    path = save(tmp_path, **{**arrays, "probs": probs})
    task = harness.task("arrays", preset="smoke", path=path)
    assert [result.check.name for result in check_all(task) if result.bad] == []
    few = slice(20, 120)  # ten of them wrong
    small = {**arrays, "features": arrays["features"][few], "labels": arrays["labels"][few], "probs": probs[few]}
    small["true_labels"] = arrays["true_labels"][few]
    path = save(tmp_path, **small)
    methods = "leave_one_out[reference=train],self_confidence,self_confidence[probs=out_of_sample]"
    frame = harness.run(methods, f"arrays[path={path}]", 1, preset="smoke", out=tmp_path / "r")
    auroc = frame[frame["metric"] == "auroc"].set_index("method_spec")["value"]
    assert auroc["self_confidence[probs=out_of_sample]"] > 0.8 > auroc["self_confidence"]  # the given ones are noise
    loo = next(iter(_scores(tmp_path / "r", "leave_one_out")))
    assert len(np.unique(loo)) > 50


def _scores(out: Path, method: str) -> Any:
    from harness.records.store import Store

    return (arrays["scores"] for record, arrays in Store(out).records() if record.method == method)


def test_large_columns_are_standardised_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = np.stack([rng.standard_normal(200_000) + 1e4, np.full(200_000, 0.1)], 1).astype(np.float32)
    path = save(tmp_path, features=features, labels=rng.integers(0, 2, 200_000))
    inputs = harness.task("arrays", path=path).load(0)[0].train.inputs
    assert inputs[:, 0].std().item() == pytest.approx(1, abs=0.01)
    assert inputs.double().mean(0).abs().max() < 1e-3
    assert inputs[:, 1].abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["float64", "int64", "uint64", "nanoseconds", "float32"])
def test_offsets_of_columns_do_not_count(tmp_path: Path, kind: str) -> None:
    """Times, identifiers and coordinates: what is far from 0 is standardised as if it were near."""
    rng = np.random.default_rng(0)
    near = rng.integers(0, 1000, (90, 3))
    offset = {"float64": 1.7e9, "int64": -(2**62), "uint64": 2**63, "nanoseconds": 17 * 10**17, "float32": 2e4}
    kinds = {"nanoseconds": "int64"}
    far = near.astype(kinds.get(kind, kind)) + np.array(offset[kind], kinds.get(kind, kind))
    sets = {"": slice(0, 50), "validation_": slice(50, 70), "test_": slice(70, 90)}
    labels = rng.integers(0, 2, 90)

    loaded = []
    for name, values in (("near", near.astype(float)), ("far", far)):
        arrays = {f"{which}features": values[rows] for which, rows in sets.items()}
        arrays |= {f"{which}labels": labels[rows] for which, rows in sets.items()}
        (tmp_path / name).mkdir()
        loaded.append(harness.task("arrays", path=save(tmp_path / name, **arrays)).load(0)[0])

    for here, there in zip(*[(s.train, s.test, s.references["validation"]) for s in loaded], strict=True):
        np.testing.assert_allclose(here.inputs, there.inputs, rtol=1e-5, atol=1e-6)


SPREADS = {
    "huge": lambda near: near * 1e154,
    "tiny": lambda near: near * 1e-170,
    "a few last digits": lambda near: 1.7e18 + 256.0 * near,
    "long double": lambda near: near.astype(np.longdouble) + np.longdouble(1e17),
}


@pytest.mark.parametrize("name", SPREADS)
def test_no_spread_is_too_large_or_small(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    near = rng.integers(0, 4, (40, 2)).astype(float)
    path = save(tmp_path, features=SPREADS[name](near), labels=np.arange(40) % 2)

    inputs = harness.task("arrays", path=path).load(0)[0].train.inputs

    np.testing.assert_allclose(inputs, (near - near.mean(0)) / near.std(0), rtol=1e-5)


def test_columns_that_do_not_vary_are_zero(tmp_path: Path) -> None:
    path = save(tmp_path, features=np.c_[np.full(20, 0.1), np.arange(20)], labels=np.arange(20) % 2)
    inputs = harness.task("arrays", path=path).load(0)[0].train.inputs
    assert not inputs[:, 0].any()
    assert inputs[:, 1].std(correction=0).item() == pytest.approx(1)


def test_probabilities_alone(tmp_path: Path) -> None:
    path = save(tmp_path, probs=probabilities(300), labels=data()["labels"], true_labels=data()["true_labels"])
    frame = harness.run("all", f"arrays[path={path}]", 1, out=tmp_path / "r")
    assert set(frame["status"]) == {"ok", "skipped"}
    ok = set(frame.loc[frame["status"] == "ok", "method"])
    assert ok == {
        "none",
        "random",
        "self_confidence",
        "normalized_margin",
        "confidence_weighted_entropy",
        "representer",
    }
    reasons = frame.set_index("method")["error"]
    assert "gradients need the last layer's features" in reasons["outlier_l1"]


@pytest.mark.parametrize("shape", ["nhw", "nhwc", "nchw"])
def test_images(tmp_path: Path, shape: str) -> None:
    arrays = data()

    def pictures(x: np.ndarray) -> np.ndarray:
        grey = (x.reshape(-1, 8, 8) * 15).astype(np.uint8)
        return {"nhw": grey, "nhwc": np.repeat(grey[..., None], 3, 3), "nchw": np.repeat(grey[:, None], 3, 1)}[shape]

    path = save(tmp_path, images=pictures(arrays["features"]), labels=arrays["labels"],
                test_images=pictures(arrays["test_features"]), test_labels=arrays["test_labels"])  # fmt: skip
    task = harness.task("arrays", path=path, epochs=1)
    split, _ = task.load(0)
    assert (split.train.inputs.shape, split.train.inputs.dtype) == ((300, 3, 8, 8), torch.uint8)
    np.testing.assert_array_equal(split.train.inputs[:, 1].numpy(), pictures(arrays["features"]).reshape(
        300, 8, 8) if shape == "nhw" else split.train.inputs[:, 0].numpy())  # fmt: skip
    model = task.train(split, None, 0)
    assert task.view(model, split).probs.shape == (300, 10)
    assert 0 < task.evaluate(model, split)["accuracy"] < 1
    assert task.pictures(split, np.array([4])).shape == (1, 8, 8, 3)
    frame = harness.run("outlier_l2", f"arrays[path={path},epochs=1]", 1, out=tmp_path / "r")
    assert set(frame["status"]) == {"ok"}
