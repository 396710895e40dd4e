"""The task `arrays`: labels, probabilities and files that do not serve."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.selection.registry import TASKS
from tasks._array_file import read
from tests.array_files import data, save

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
