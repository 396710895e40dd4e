"""The task ``arrays``: a user's own file, and the list of suspects."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.selection.registry import TASKS
from harness.testing import check_all
from tasks._array_file import read


def data() -> dict[str, np.ndarray]:
    """Digits: 300 training samples of which 30 are wrongly labelled, validation and test."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    given = y[:300].copy()
    given[:30] = (given[:30] + 1) % 10
    return {
        "features": x[:300],
        "labels": given,
        "true_labels": y[:300],
        "validation_features": x[300:450],
        "validation_labels": y[300:450],
        "test_features": x[450:],
        "test_labels": y[450:],
    }


def save(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


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
    text = capsys.readouterr().out
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


LABELS: dict[str, tuple[Any, list[str], list[int]]] = {
    "minus and plus one": ([-1, 1, 1, -1], ["-1", "1"], [0, 1, 1, 0]),
    "minus one beside 0 and 1": ([-1, 1, 0, 1], ["0", "1"], [1, 0, 1]),
    "sparse numbers": ([990, 101, 205, 101], ["101", "205", "990"], [2, 0, 1, 0]),
    "booleans": ([True, False, True, True], ["False", "True"], [1, 0, 1, 1]),
    "floats": ([0.0, 2.0, np.nan, 2.0], ["0", "2"], [0, 1, 1]),
    "numbers as text": (["10", "2", " 2", "10.0"], ["2", "10"], [1, 0, 0, 1]),
    "missing text": (["cat", "", "nan", "dog"], ["cat", "dog"], [0, 1]),
    "bytes that are no UTF-8": ([b"caf\xe9", b"caf\xe8", b"x", b"x"], ["caf\\xe8", "caf\\xe9", "x"], [1, 0, 2, 2]),
    "half precision": (np.array([2, 0, 2, 0], np.float16), ["0", "2"], [1, 0, 1, 0]),
    "bytes": ([b"b", b"a", b"b ", b"<NA>"], ["a", "b"], [1, 0, 1]),
    "words that only look like none": (["none", "NA", "none", "NA"], ["NA", "none"], [1, 0, 1, 0]),
    "leading zeros": (["007", "7", "007", "8"], ["007", "7", "8"], [0, 1, 0, 2]),
    "eight bits": (np.array([3, 200, 3, 3], np.uint8), ["3", "200"], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_which_labels_are_classes(tmp_path: Path, name: str) -> None:
    labels, classes, numbers = LABELS[name]
    path = save(tmp_path, features=np.arange(8.0).reshape(4, 2), labels=np.array(labels))
    missing = 4 - len(numbers)
    with pytest.warns(UserWarning, match=f"none in {missing} rows") if missing else nullcontext():
        file = read(path)

    assert (file.classes, file.train.labels.tolist()) == (classes, numbers)
    assert len(file.train.inputs) == len(numbers)
    assert file.left_out == missing


@pytest.mark.parametrize("kind", ["text", "float", "int", "object-like"])
def test_one_label_written_in_several_ways_is_one_class(tmp_path: Path, kind: str) -> None:
    """The columns of probabilities are numbers' columns, whether the file says 10 or "10"."""
    y = np.arange(24) % 12
    probs = np.full((24, 12), 0.01)
    probs[np.arange(24), y] = 0.89
    written = {"text": y.astype(str), "float": y.astype(float), "int": y, "object-like": y.astype("S3")}[kind]
    path = save(tmp_path, probs=probs, labels=written, true_labels=y)

    file = read(path)

    assert file.classes == [str(k) for k in range(12)]
    np.testing.assert_array_equal(file.train.labels, y)
    np.testing.assert_array_equal(file.truth, y)


def test_columns_of_classes_without_samples(tmp_path: Path) -> None:
    """Numbers are columns; other labels are the columns in order, and that is said."""
    probs = np.full((4, 3), 1 / 3)
    file = read(save(tmp_path, probs=probs, labels=[0, 2, 0, 2]))
    assert (file.classes, file.train.labels.tolist()) == (["0", "1", "2"], [0, 2, 0, 2])
    with pytest.warns(UserWarning, match="columns of probs are taken for the classes in this order: 101, 205, 990"):
        file = read(save(tmp_path, probs=probs, labels=[101, 205, 990, 101]))
    assert file.train.labels.tolist() == [0, 1, 2, 0]


def test_samples_are_named_by_their_rows_where_some_are_left_out(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((30, 3))
    path = save(tmp_path, features=x, labels=np.where(np.arange(30) % 10 == 4, "", (np.arange(30) % 3).astype(str)))
    task = harness.task("arrays", path=path)
    with pytest.warns(UserWarning, match=r"none in 3 rows, which are left out; the first is row 4"):
        names = task.sample_names(0)
    with pytest.warns(UserWarning, match="left out"):
        split, _ = task.load(0)

    assert names[3:6] == ["row 3", "row 5", "row 6"]
    assert len(split.train) == len(names) == 27


@pytest.mark.parametrize("top", [1.00001, 1.004])
def test_probabilities_off_by_their_rounding_are_mended_and_told(tmp_path: Path, top: float) -> None:
    probs = np.array([[top, 0.0], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]])
    path = save(tmp_path, probs=probs, labels=[0, 1, 0, 1])
    with pytest.warns(UserWarning, match="each row was divided by its sum") if top > 1.001 else nullcontext():
        found = read(path).train.probs

    assert found.max() <= 1
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    expected = harness.View.from_arrays(None, probs, [0, 1, 0, 1]).probs
    np.testing.assert_array_equal(found, expected)


def test_probabilities_alone(tmp_path: Path) -> None:
    path = save(tmp_path, probs=probabilities(300), labels=data()["labels"], true_labels=data()["true_labels"])
    frame = harness.run("all", f"arrays[path={path}]", 1, out=tmp_path / "r")
    assert set(frame["status"]) == {"ok", "skipped"}
    ok = set(frame.loc[frame["status"] == "ok", "method"])
    assert ok == {"none", "random", "self_confidence", "normalized_margin", "confidence_weighted_entropy"}
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


def test_text_labels(tmp_path: Path) -> None:
    arrays = data()
    names = np.array([f"class {k}" for k in range(10)])
    path = save(tmp_path, features=arrays["features"], labels=names[arrays["labels"]],
                true_labels=names[arrays["true_labels"]].astype("S"))  # fmt: skip
    file = read(path)
    assert file.classes == list(names)
    np.testing.assert_array_equal(file.train.labels, arrays["labels"])
    np.testing.assert_array_equal(file.truth, arrays["true_labels"])


X, Y = np.zeros((4, 3)), np.array([0, 1, 0, 1])
P = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"features": X}, "it has no labels; it holds features"),
        ({"labels": Y}, r"it needs features \(n, d\), images"),
        ({"features": X, "label": Y}, r"'label' is none of its arrays .did you mean 'labels'"),
        ({"features": X[:3], "labels": Y}, "labels has 4 entries, features or images 3"),
        ({"features": X[:, 0], "labels": Y}, r"features must be \(n, d\) finite numbers; it is float64 \(4,\)"),
        ({"features": X + np.nan, "labels": Y}, "finite numbers"),
        ({"features": X, "labels": Y - 1}, r"all labels are of one class, 0 \(-1 stands for no label beside 0\)"),
        ({"features": X, "labels": Y * 0.5}, r"labels must be integers, booleans or text, not numbers such as 0\.5"),
        ({"features": X, "labels": Y * 0}, "all labels are of one class"),
        ({"features": X, "labels": Y[:, None]}, "labels must be one-dimensional"),
        (
            {"features": X, "labels": Y, "probs": 2 * P},
            r"must be probabilities: .* with sums from 2 to 2",
        ),
        (
            {"features": X, "labels": np.arange(4), "probs": P},
            "2 columns and there are 4 classes: 0, 1, 2, 3",
        ),
        ({"features": X, "images": X, "labels": Y}, "give features or images, not both"),
        ({"images": X, "labels": Y}, "images must be uint8"),
        ({"images": np.zeros((4, 9, 9, 2), np.uint8), "labels": Y}, "1 or 3 channels"),
        ({"images": np.zeros((4, 4, 4), np.uint8), "labels": Y}, "sides of 8 pixels or more"),
        ({"features": X, "labels": Y, "test_features": X}, "it has no test_labels"),
        (
            {"features": X, "labels": Y, "test_features": X[:, :2], "test_labels": Y},
            "must be like those of the training",
        ),
        ({"features": X, "labels": Y, "true_labels": Y[:2]}, "true_labels has 2 entries, labels 4"),
        ({"features": X, "labels": Y.astype(object)}, "it holds Python objects"),
        ({"features": X[:, :0], "labels": Y}, "finite numbers"),
        ({"features": X, "labels": Y, "true_labels": np.array([0, 1, np.nan, 1])}, "true_labels has no label in row 2"),
        ({"features": X, "labels": [np.nan] * 4}, "all labels are of one class"),
        (
            {"features": X, "labels": ["a", "b"] * 2, "true_labels": ["A", "B"] * 2},
            "have no class in common; write them alike",
        ),
        ({"features": X, "labels": Y, "true_labels": Y + 2}, "have no class in common"),
        ({"probs": np.full((4, 3), 1 / 3), "labels": [-1, 0, 1, 0]}, "is -1 a class"),
        (
            {"features": X, "labels": [-1, 1, 1, 1], "test_features": X, "test_labels": Y},
            "all labels of the training samples are of one class, 1",
        ),
    ],
)
def test_files_that_do_not_serve(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(RequestError, match=sentence):
        harness.run("none", f"arrays[path={path}]", 1, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_other_requests_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r")
    path = save(tmp_path, features=X, labels=Y)
    torn = tmp_path / "torn.npz"
    torn.write_bytes(Path(path).read_bytes()[:-40])
    single = tmp_path / "single.npy"
    np.save(single, X)
    for task, sentence in (
        ("arrays", "the task arrays needs a file; write arrays[path=FILE.npz] with labels"),
        (f"arrays[path={tmp_path}/absent.npz]", "No such file or directory"),
        (f"arrays[path={torn}]", "it cannot be read"),
        (f"arrays[path={single}]", "it is a single array"),
        (f"arrays[path={path},model=small_cnn]", "arrays[model=small_cnn] does not fit the file's inputs; give linear"),
        (f"arrays[path={path},width=0]", "width=0 must be at least 1"),
    ):
        assert main(["run", "--methods", "none", "--tasks", task, "--out", out]) == 2
        assert sentence in capsys.readouterr().err
    assert not Path(out).exists()


def test_all_does_not_mean_a_file_that_nobody_named() -> None:
    assert "arrays" not in [cls.name for cls, _ in TASKS.select("all")]
    assert [cls.name for cls, _ in TASKS.select("arrays[path=x.npz]")] == ["arrays"]
    with pytest.raises(RequestError, match="leaves no task"):
        TASKS.select("arrays[path=x.npz],-arr*")


def test_another_file_under_the_same_name_is_another_cell(tmp_path: Path) -> None:
    arrays = data()
    path = save(tmp_path, **arrays)
    run = ["run", "--methods", "outlier_l2", "--tasks", f"arrays[path={path}]", "--preset", "smoke", "--seeds", "1"]
    out = ["--out", str(tmp_path / "r")]
    assert main([*run, *out]) == 0

    def key() -> str:
        return str(json.loads(next((tmp_path / "r").rglob("seed0*.json")).read_text())["key"])

    first = key()
    save(tmp_path, **{**arrays, "labels": arrays["true_labels"]})
    assert main([*run, *out]) == 0  # stale: shown, not silently reused, and not redone unasked
    assert key() == first
    with pytest.raises(RequestError, match="the data at hand is not what"):
        _loaded_again(tmp_path / "r")
    assert main([*run, *out, "--rerun", "stale"]) == 0
    assert key() != first


def _loaded_again(out: Path) -> None:
    from harness.records.store import Store
    from harness.results.reload import known_task, loaded_again

    for record, arrays in Store(out).records():
        loaded_again(known_task(record), record, arrays)


def test_suspects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = data()
    names = np.array([f"digit {k}" for k in range(10)])
    arrays |= {key: names[arrays[key]] for key in arrays if key.endswith("labels")}
    path, out = save(tmp_path, **arrays), str(tmp_path / "r")
    harness.run("self_confidence,outlier_l2", [f"arrays[path={path}]", "moons"], 3, preset="smoke", out=out)
    listing = ["suspects", out, "--method", "self_confidence", "--task", "arrays"]
    assert main([*listing, "--top", "20", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("The 20 most suspicious of 300 samples of arrays[path=")
    assert "seeds 0, 1, 2" in captured.err
    frame = pd.read_csv(io.StringIO(captured.out))
    assert list(frame.columns) == ["rank", "index", "suspicion", "score", "flagged", "given", "true"]
    assert (frame["given"] != frame["true"]).mean() > 0.6  # 0.1 by chance
    assert frame["suspicion"].is_monotonic_decreasing
    np.testing.assert_array_equal(frame["given"], arrays["labels"][frame["index"]])
    # one seed alone, and a task whose seeds have samples of their own
    assert main([*listing, "--seed", "1", "--top", "3"]) == 0
    assert "seed 1\n" in capsys.readouterr().err
    assert main(["suspects", out, "--method", "outlier_l2", "--task", "moons", "--output", str(tmp_path / "s")]) == 0
    assert len((tmp_path / "s").read_text().splitlines()) == 101
    assert "seed 0\n" in capsys.readouterr().err
    # without the data the list is still a list
    Path(path).unlink()
    assert main([*listing, "--top", "5"]) == 0
    captured = capsys.readouterr()
    assert "labels are left out: arrays[path=" in captured.err
    assert captured.out.splitlines()[0].split() == ["rank", "index", "suspicion", "score", "flagged"]


def test_suspects_of_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r")
    harness.run("outlier_l2,datainf,datainf[damping=1]", "moons,blobs", 1, preset="smoke", out=out)
    for options, sentence in (
        (["--method", "outlier_l3"], "(did you mean 'outlier_l2'?)"),
        (["--method", "outlier_l2"], "holds several such results"),
        (["--method", "outlier_l2", "--task", "moon"], "(did you mean 'moons'?)"),
        (["--method", "outlier_l2", "--task", "moons", "--seed", "4"], "has no such result of seed 4; it has 0"),
        (["--method", "outlier_l2", "--top", "0"], "--top 0 is not valid"),
    ):
        assert main(["suspects", out, *options]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["suspects", out, "--method", "datainf", "--task", "moons"]) == 0  # the label decides, not the name
    assert "of moons by datainf, protocol" in capsys.readouterr().err
    assert main(["suspects", out, "--method", "datainf[damping=1.0]", "--task", "moons"]) == 0
