"""Label errors in a user's own data: from any form of data to suspects, counts, cleaned files and a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_wine

import harness
from harness.errors import RequestError
from harness.finding.ask import find_errors
from harness.finding.duplicates import duplicates
from harness.finding.planting import KINDS, Ground, confused_classes
from harness.interfaces.view import View
from reports.found_page import found_page
from reports.found_text import found_text
from tasks._own_columns import kind_of
from tasks._own_folds import folds_of
from tests.command_line import call

NAMES = np.array(["malignant", "benign"])


def cancer(rate: float = 0.08, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Breast cancer with flipped labels, and which labels are wrong."""
    values, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[np.random.default_rng(seed).choice(len(labels), round(rate * len(labels)), replace=False)] = True
    return values.assign(diagnosis=NAMES[np.where(wrong, 1 - labels, labels)]), wrong


def f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


def in_order(frame: pd.DataFrame, column: str) -> np.ndarray:
    return frame[column].sort_index().to_numpy()


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "data.csv": lambda table, path: table.to_csv(path, index=False),
    "my data, [v2].tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "data.parquet": lambda table, path: table.to_parquet(path, index=False),
    "data.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_table_gives_the_same_suspects(name: str, tmp_path: Path) -> None:
    table, wrong = cancer()
    WRITERS[name](table, tmp_path / name)

    frame = harness.find(tmp_path / name, "diagnosis")

    expected = harness.find(table, "diagnosis")
    flagged = in_order(frame, "probably_wrong")
    assert (flagged == in_order(expected, "probably_wrong")).all()
    assert f1(flagged, wrong) > 0.85
    assert frame.attrs["low"] <= wrong.sum() <= frame.attrs["high"]
    assert abs(frame.attrs["estimated_errors"] - wrong.sum()) <= 10
    own = list(table.columns)
    assert list(frame.columns) == [*own, "given", "suggested", "probability", "score", "probably_wrong"]
    assert (frame["given"] != frame["suggested"]).all()
    assert frame["score"][frame["probably_wrong"]].is_monotonic_decreasing


def test_clean_labels_give_few_suspects() -> None:
    values, labels = load_wine(return_X_y=True)

    frame = harness.find(values, labels)

    assert frame["probably_wrong"].sum() == 0
    assert frame.attrs["estimated_errors"] == frame.attrs["low"] == 0


def test_forms_of_labels() -> None:
    values, labels = load_wine(return_X_y=True)
    expected = in_order(harness.find(values, labels), "score")
    for made in (labels.astype(float), labels.astype(str), [f" {k} " for k in labels], labels.astype(object)):
        np.testing.assert_allclose(in_order(harness.find(values, made), "score"), expected)
    truth = harness.find(values, labels == 1)
    assert set(truth["given"]) == {"True", "False"}


def test_missing_labels_and_missing_values(tmp_path: Path) -> None:
    table, _ = cancer()
    table.loc[[3, 7], "diagnosis"] = None
    table.loc[10:40, "mean radius"] = np.nan
    table["site"] = np.random.default_rng(0).choice(["north", "south", None], len(table))
    table["id"] = np.arange(len(table)) + 1000
    table["code"] = [f"x{k}" for k in range(len(table))]
    table.to_csv(tmp_path / "data.csv", index=False)

    frame = harness.find(tmp_path / "data.csv", "diagnosis", ignore=["worst area"])

    assert len(frame) == len(table) - 2
    assert not {3, 7} & set(frame.index)
    notes = " ".join(frame.attrs["notes"])
    assert "2 rows have no label and are left out: row 3, row 7." in notes
    assert "29 of the columns are standardised numbers" in notes
    assert "1 of the columns are one-hot categories: site." in notes
    assert "id is left out, because it numbers the rows" in notes
    assert "code is left out, because it has a value of its own in most rows" in notes
    assert "worst area" not in notes


def test_kinds_of_columns() -> None:
    n = 300
    rng = np.random.default_rng(0)
    words = ["good", "bad", "fine", "poor", "dull", "great", "slow", "fast"]
    columns: dict[str, tuple[Any, str]] = {
        "float": (rng.normal(size=n), "number"),
        "flag": (rng.random(n) < 0.5, "number"),
        "time": (pd.date_range("2020", periods=n, freq="h"), "number"),
        "grade": (rng.integers(0, 5, n), "number"),
        "colour": (rng.choice(["red", "green"], n), "category"),
        "kind": (pd.Categorical(rng.choice(["a", "b"], n)), "category"),
        "review": ([" ".join(rng.choice(words, 7)) for _ in range(n)], "text"),
        "empty": ([None] * n, "left out"),
        "same": (["x"] * n, "left out"),
        "lists": ([[1, 2]] * n, "left out"),
    }
    for name, (values, kind) in columns.items():
        assert kind_of(name, pd.Series(values)).kind == kind, name


def test_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = {"good": ["great", "fine", "lovely", "superb", "warm"], "bad": ["awful", "poor", "dull", "weak", "cold"]}
    labels = rng.choice(["good", "bad"], 400)
    texts = [" ".join([*rng.choice(words[label], 3), *rng.choice(["film", "plot", "cast"], 2)]) for label in labels]
    given = labels.copy()
    given[:20] = np.where(labels[:20] == "good", "bad", "good")

    frame = harness.find(texts, given)

    assert set(frame.index[:20]) == set(range(20))
    assert frame.attrs["estimated_errors"] == pytest.approx(20, abs=3)
    assert (frame["suggested"].iloc[:20] == labels[frame.index[:20]]).all()


def test_texts_seen_by_an_encoder(tmp_path: Path) -> None:
    """A small BERT from a folder: one feature vector per text, whatever is in the batch beside it."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    from tasks._own_texts import text_features

    words = ["great", "fine", "lovely", "superb", "awful", "poor", "dull", "weak", "film", "plot", "cast", "scene"]
    numbers = {word: k for k, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(vocab_size=14, **sizes)).save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    texts = [
        " ".join([*rng.choice(words[4 * y : 4 * y + 4], 3), *rng.choice(words[8:], 2 + k % 4)])
        for k, y in enumerate(labels)
    ]

    features = text_features(texts, str(tmp_path))

    np.testing.assert_allclose(features[7], text_features([texts[7]], str(tmp_path))[0], atol=1e-5)
    given = labels.copy()
    given[:8] = 1 - given[:8]
    frame = harness.find(texts, given, text_encoder=str(tmp_path), method="outlier_l2")
    assert len(set(frame.index[:8]) & set(range(8))) >= 7
    with pytest.raises(RequestError, match="text_encoder=nowhere cannot be loaded"):
        harness.find(texts, given, text_encoder="nowhere")


def image(colour: int, rng: np.random.Generator) -> Image.Image:
    pixels = rng.integers(0, 60, (20, 24, 3)).astype(np.uint8)
    pixels[..., colour] += 150
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ninety images in three folders, six of them in a wrong folder."""
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for k in range(90):
        colour = k % 3
        folder = tmp_path / "photos" / ["blue", "green", "red"][(colour + (k < 6)) % 3]
        folder.mkdir(parents=True, exist_ok=True)
        image(2 - colour, rng).save(folder / f"{k:03d}.png")
    return tmp_path / "photos"


def test_a_folder_of_images(photos: Path, tmp_path: Path) -> None:
    found = find_errors(str(photos), None, pixels=32)

    wrong = {str(name) for name in found.columns["file"].head(6)}
    assert {int(Path(name).stem) for name in wrong} == set(range(6))
    page = found_page(found)
    assert page.count("data:image/jpeg;base64,") == len(found.wrong) >= 3
    assert 'data-given="green"' in page

    suspects, suggested = found.by_position()
    told = found.task.write(tmp_path / "kept.txt", "drop", suspects, suggested)  # type: ignore[union-attr]
    count = len(found.wrong)
    assert f"{90 - count} of 90 rows, without {count} suspects" in told
    assert len((tmp_path / "kept.txt").read_text().splitlines()) == 90 - count


def test_images_with_a_table(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.glob("*/*.png"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in files:
        file.rename(flat / file.name)
    table = pd.DataFrame({"file_name": [f.name for f in files], "colour": [f.parent.name for f in files]})
    table.to_csv(flat / "metadata.csv", index=False)

    for data in (flat, flat / "metadata.csv"):
        frame = harness.find(data, "colour", pixels=32)
        assert {int(Path(name).stem) for name in frame["file_name"].head(6)} == set(range(6))


def test_datasets(photos: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table, wrong = cancer()
    plain = datasets.Dataset.from_pandas(table).class_encode_column("diagnosis")
    plain.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": plain}).save_to_disk(tmp_path / "splits")
    for data in (plain, tmp_path / "saved", tmp_path / "splits"):
        frame = harness.find(data, "diagnosis")
        assert f1(in_order(frame, "probably_wrong"), wrong) > 0.85
        assert set(frame["given"]) == set(NAMES)

    found = find_errors(str(tmp_path / "saved"))  # one column of class labels: no name is needed
    suspects, suggested = found.by_position()
    task: Any = found.task
    task.write(tmp_path / "relabelled", "relabel", suspects, suggested)
    again = datasets.load_from_disk(str(tmp_path / "relabelled"))
    assert again.features == plain.features
    changed = np.array(again["diagnosis"]) != np.array(plain["diagnosis"])
    assert (changed == suspects).all()

    files = sorted(photos.glob("*/*.png"))
    pictures = datasets.Dataset.from_dict({"image": [str(f) for f in files], "label": [f.parent.name for f in files]})
    pictures = pictures.cast_column("image", datasets.Image())
    frame = harness.find(pictures, "label", pixels=32)
    assert {int(files[row].stem) for row in frame.index[:6]} == set(range(6))


def test_arrays_and_own_probabilities(tmp_path: Path) -> None:
    values, labels = load_wine(return_X_y=True)
    given = labels.copy()
    given[:10] = (given[:10] + 1) % 3
    probs = np.eye(3)[labels] * 0.7 + 0.1
    np.savez(tmp_path / "both.npz", features=values, labels=given, probs=probs)
    np.savez(tmp_path / "probs.npz", labels=given, probs=probs)
    for name in ("both", "probs"):
        frame = harness.find(tmp_path / f"{name}.npz")
        assert set(frame.index[:10]) == set(range(10))
        assert frame["probably_wrong"].sum() == 10
        np.testing.assert_allclose(frame["probability"].head(10), 0.8)


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.parquet", "data.jsonl"])
@pytest.mark.parametrize("how", ["drop", "relabel", "mark"])
def test_the_cleaned_file(name: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, _ = cancer()
    table["note"] = 'keep, "this" as it is'
    table.iloc[5, table.columns.get_loc("diagnosis")] = None
    writer = WRITERS[name] if name in WRITERS else WRITERS["my data, [v2].tsv"]
    writer(table, tmp_path / name)
    before = (tmp_path / name).read_bytes()

    options = ["--labels", "diagnosis", "--clean", str(tmp_path / f"new_{name}"), "--clean-how", how]
    options += ["--format", "csv", "--output", str(tmp_path / "out.csv")]
    code, _, err = call(capsys, "find", str(tmp_path / name), *options)

    assert code == 0, err
    assert (tmp_path / name).read_bytes() == before
    listed = pd.read_csv(tmp_path / "out.csv")
    suspects = set(listed["row"])
    frame = harness.find(
        tmp_path / f"new_{name}", "diagnosis", ignore=["suspect", "suggested_label"][: 2 * (how == "mark")]
    )
    if how == "drop":
        assert len(frame) == len(table) - len(suspects) - 1
    elif how == "relabel":
        changed = frame["given"].sort_index() != table["diagnosis"].drop(index=5)
        assert set(changed[changed].index) == suspects
    else:
        assert set(frame.index[frame["suspect"].astype(str).isin(["True", "true"])]) == suspects
    if how != "mark":
        assert frame["probably_wrong"].sum() < len(suspects) / 3
    assert set(frame["note"]) == {'keep, "this" as it is'}


def test_a_csv_keeps_its_own_spelling(tmp_path: Path) -> None:
    """Numbers, blanks and leading zeros of a CSV file are not written in another way."""
    table, _ = cancer()
    lines = table.assign(zip="00123", size="1.50").to_csv(index=False).splitlines(keepends=True)
    (tmp_path / "data.csv").write_text("".join(lines))

    found = find_errors(tmp_path / "data.csv", "diagnosis")
    task: Any = found.task
    task.write(tmp_path / "new.csv", "drop", *found.by_position())

    kept = set((tmp_path / "new.csv").read_text().splitlines(keepends=True))
    assert kept < set(lines)
    assert len(lines) - len(kept) == len(found.wrong)


def test_folds_are_stratified_and_keep_groups_together() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 203, p=[0.5, 0.3, 0.18, 0.02])
    fold = folds_of(labels, None, 5, 1)
    for label in range(4):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    groups = rng.integers(0, 40, 203).astype(str)
    fold = folds_of(labels, groups, 5, 1)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    with pytest.raises(RequestError, match="folds=5 needs 5 groups, and there are 2"):
        folds_of(labels, np.where(labels > 1, "a", "b"), 5, 0)


def test_groups_are_not_judged_by_their_own_twins() -> None:
    """With every row there twice, a wrong label is found only if the twin is in the same fold."""
    table, wrong = cancer(0.15)
    twice = pd.concat([table, table], ignore_index=True).assign(patient=np.tile(np.arange(len(table)), 2))
    both = np.tile(wrong, 2)
    alone = f1(in_order(harness.find(twice, "diagnosis", groups="patient", model="boosting"), "probably_wrong"), both)
    leaky = f1(in_order(harness.find(twice, "diagnosis", ignore=["patient"], model="boosting"), "probably_wrong"), both)
    assert alone > 0.8
    assert alone > leaky


def test_rare_classes_are_not_judged() -> None:
    table, _ = cancer(0)
    table.loc[[0, 1], "diagnosis"] = "unclear"
    frame = harness.find(table, "diagnosis")
    assert not frame.loc[[0, 1], "probably_wrong"].any()
    assert list(frame.index[-2:]) == [0, 1]
    assert "Not judged are 2 samples, because their classes have samples in fewer than 3 folds: unclear." in " ".join(
        frame.attrs["notes"]
    )


def test_many_classes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 16)) * 4
    labels = np.repeat(np.arange(200), 10)
    given = labels.copy()
    given[:40] = rng.permutation(given)[:40]
    frame = harness.find(centres[labels] + rng.normal(size=(2000, 16)), given)
    assert f1(in_order(frame, "probably_wrong"), given != labels) > 0.85


def test_duplicates() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5))
    features[10] = features[0]
    features[20] = features[1] * 1.0000001
    contents = [row.tobytes() for row in features]
    probs = np.full((60, 2), 0.5)
    given = np.array(["a", "b"])[np.arange(60) % 2]

    frame = duplicates(View.from_arrays(features, probs, np.arange(60) % 2), contents, np.arange(60) + 100, given)

    assert frame[["row", "kind", "labels_differ"]].values.tolist() == [
        [101, "near", True],
        [120, "near", True],
        [100, "exact", False],
        [110, "exact", False],
    ]
    assert frame["set"].tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_planted_errors(kind: str) -> None:
    """The wanted number of labels changes, among the free samples alone, to classes that occur."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    probs = np.eye(4)[labels] * 0.6 + 0.1
    free = rng.random(400) < 0.8
    flagged = ~free
    ground = Ground(labels, probs, rng.normal(size=(400, 3)), free, confused_classes(labels, probs, flagged))

    planted = KINDS[kind](ground, 40, np.random.default_rng(1))

    changed = planted != labels
    assert changed.sum() == 40
    assert not changed[flagged].any()
    assert (planted == KINDS[kind](ground, 40, np.random.default_rng(1))).all()
    if kind != "boundary":
        assert planted.max() <= 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_comparison_predicts_what_the_winner_finds(seed: int) -> None:
    """Errors are in the data already; the predicted precision's interval has the precision on those errors."""
    table, wrong = cancer(0.1, seed)

    frame = harness.find(table, "diagnosis", compare="self_confidence,normalized_margin,argmax_disagrees,leave_one_out")

    compared = pd.DataFrame(frame.attrs["compared"]).set_index("method")
    assert compared["average_precision"].idxmax() == frame.attrs["method"]
    assert compared.loc["random", "average_precision"] < 0.3 < compared.loc["self_confidence", "average_precision"]
    assert "leave_one_out" not in compared.index
    _, low, high = frame.attrs["expected_precision"]
    flagged = in_order(frame, "probably_wrong")
    assert low <= wrong[flagged].mean() <= high


def test_a_method_without_a_rule_flags_as_many_as_are_estimated_wrong() -> None:
    table, _ = cancer()
    frame = harness.find(table, "diagnosis", method="outlier_l2", model="linear")
    assert frame["probably_wrong"].sum() == frame.attrs["estimated_errors"]
    assert frame.attrs["method"] == "outlier_l2"


def test_the_page_and_the_text_show_untrusted_values_as_they_are(tmp_path: Path) -> None:
    table, _ = cancer()
    table["note"] = "<script>alert(1)</script> \x1b[31mred and some more words here"
    table["diagnosis"] = table["diagnosis"].replace("benign", '"><b>benign')
    found = find_errors(table, "diagnosis", compare="self_confidence", seeds=1)
    page, text = found_page(found), found_text(found)
    assert "<script>alert" not in page
    assert "<b>benign" not in page
    assert "\x1b" not in text
    assert "http" not in page.split("<body>")[0]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_labels_that_look_missing_are_labels(tmp_path: Path) -> None:
    """−1, NA and None are classes; only an empty label is missing."""
    values, labels = load_wine(return_X_y=True, as_frame=True)
    for names in ([-1, 0, 1], ["NA", "None", "null"]):
        values.assign(kind=np.array(names, dtype=object)[labels]).to_csv(tmp_path / "data.csv", index=False)
        frame = harness.find(tmp_path / "data.csv", "kind")
        assert len(frame) == 178
        assert set(frame["given"]) == set(map(str, names))


def test_copies_of_the_label_are_left_out() -> None:
    table, wrong = cancer()
    table["code"] = table["diagnosis"].map({"benign": 7, "malignant": 3})
    frame = harness.find(table, "diagnosis")
    assert f1(in_order(frame, "probably_wrong"), wrong) > 0.85
    assert "code is left out, because every label has one value of it" in " ".join(frame.attrs["notes"])
    again = harness.find(table.drop(columns="code"), table["diagnosis"])
    assert f1(in_order(again, "probably_wrong"), wrong) > 0.85


def test_labels_in_another_order() -> None:
    table, _ = cancer()
    values, labels = table.drop(columns="diagnosis"), table["diagnosis"]
    expected = in_order(harness.find(values, labels), "score")
    shuffled = labels.sample(frac=1, random_state=0)
    np.testing.assert_allclose(in_order(harness.find(values, shuffled), "score"), expected)
    with pytest.raises(RequestError, match="labels has another index"):
        harness.find(values, labels.set_axis(range(5, 5 + len(labels))))


def test_columns_called_as_the_results_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table, _ = cancer()
    table = table.assign(given="USER", given_found="too", row=np.arange(len(table)) % 7)
    table.to_csv(tmp_path / "data.csv", index=False)
    frame = harness.find(tmp_path / "data.csv", "diagnosis")
    assert set(frame["given"]) == {"USER"}
    assert set(frame["given_found_found"]) == set(NAMES)
    code, out, _ = call(capsys, "find", str(tmp_path / "data.csv"), "--labels", "diagnosis", "--top", "3")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("row"))
    assert line.split()[:3] == ["row", "given", "suggested"]
    assert "USER" not in out.splitlines()[out.splitlines().index(line) + 1].split()[:3]


def test_values_of_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    """Large integers beside missing ones, and all digits of floats, in Parquet and in JSON lines."""
    table, _ = cancer()
    big = pd.array([2**53 + 1, None, *range(len(table) - 2)], dtype="Int64")
    table = table.assign(big=big, exact=np.pi * np.arange(len(table)) / 7)
    table.to_parquet(tmp_path / "data.parquet", index=False)
    found = find_errors(tmp_path / "data.parquet", "diagnosis")
    task: Any = found.task
    task.write(tmp_path / "new.parquet", "relabel", *found.by_position())
    again = pd.read_parquet(tmp_path / "new.parquet", dtype_backend="pyarrow")
    assert again["big"].iloc[0] == 2**53 + 1
    assert again["big"].dtype == "int64[pyarrow]"

    lines = [
        json.dumps({"big": 2**60 + k if k % 9 else None, **row})
        for k, row in enumerate(table.drop(columns="big").to_dict("records"))
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    found = find_errors(tmp_path / "data.jsonl", "diagnosis")
    task = found.task
    task.write(tmp_path / "new.jsonl", "relabel", *found.by_position())
    new = (tmp_path / "new.jsonl").read_text().splitlines()
    changed = [k for k, (one, other) in enumerate(zip(lines, new, strict=True)) if one != other]
    assert set(changed) == set(found.wrong.index)
    for k in changed:
        one, other = json.loads(lines[k]), json.loads(new[k])
        assert {key for key in one if one[key] != other[key]} == {"diagnosis"}


def test_arrays_are_written_as_arrays(tmp_path: Path) -> None:
    values, labels = load_wine(return_X_y=True)
    given = labels.copy()
    given[:8] = (given[:8] + 1) % 3
    np.savez(tmp_path / "data.npz", features=values, labels=given, names=np.array(["a", "b"]))
    found = find_errors(tmp_path / "data.npz")
    task: Any = found.task
    for how in ("drop", "relabel", "mark"):
        task.write(tmp_path / f"{how}.npz", how, *found.by_position())
    count = len(found.wrong)
    with np.load(tmp_path / "drop.npz") as dropped, np.load(tmp_path / "relabel.npz") as relabelled:
        assert dropped["features"].shape == (178 - count, 13)
        assert dropped["names"].tolist() == ["a", "b"]
        assert (relabelled["labels"] != given).sum() == count
    with np.load(tmp_path / "mark.npz") as marked:
        assert marked["suspect"].sum() == count


ODD: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "dict": (lambda t: harness.find({"a": 1}, [1]), "data= is a dict|labels needs one entry"),
    "none": (lambda t: harness.find(None, [1]), "labels needs one entry"),
    "short labels": (lambda t: harness.find(t, [1, 2]), "labels needs one entry per sample"),
    "two labels": (lambda t: harness.find(t, np.zeros((len(t), 2))), "labels needs one entry per sample"),
    "nan": (lambda t: harness.find(np.full((9, 2), np.nan), [0, 1, 2] * 3), "not finite"),
    "none flags": (lambda t: harness.find(t, "diagnosis", method="none"), "flags nothing"),
    "seeds": (lambda t: harness.find(t, "diagnosis", compare=True, seeds=1.5), "seeds=1.5 is not valid"),  # type: ignore[arg-type]
    "groups": (lambda t: harness.find(t, "diagnosis", groups=3), "groups= must be the name of a column"),  # type: ignore[arg-type]
    "groups of arrays": (
        lambda t: harness.find(t.iloc[:, :3].to_numpy(), t["diagnosis"].tolist(), groups="a"),
        "has no columns",
    ),
    "two samples": (lambda t: harness.find(t.iloc[:2], ["x", "y"]), "folds=5 needs 5 samples"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_calls_get_one_sentence(case: str) -> None:
    act, told = ODD[case]
    with pytest.raises(RequestError, match=told):
        act(cancer()[0])


def test_forms_of_arguments() -> None:
    table, _ = cancer()
    expected = harness.find(table, "diagnosis", ignore=["worst area"], method="self_confidence")
    for made in (
        harness.find(table, "diagnosis", ignore="worst area", method=harness.method("self_confidence")),  # type: ignore[arg-type]
        harness.find(table.rename(columns={"diagnosis": 4}), 4, ignore=["worst area"], method="self_confidence"),
    ):
        np.testing.assert_allclose(in_order(made, "score"), in_order(expected, "score"))
    text = table.assign(site=pd.Categorical(np.where(np.arange(len(table)) % 3, "a long text of several words", None)))
    assert len(
        harness.find(text.assign(site=text["site"].astype(str) + " " + text.index.astype(str)), "diagnosis")
    ) == len(table)
    gaps = table.assign(patient=[None if k % 5 else k for k in range(len(table))])
    assert len(harness.find(gaps, "diagnosis", groups="patient")) == len(table)


def test_missing_images_and_other_files(photos: Path) -> None:
    files = sorted(photos.glob("*/*.png"))
    (files[0].parent / "notes.txt").write_text("x")
    frame = harness.find(photos, pixels=32)
    assert "1 files are neither" in " ".join(frame.attrs["notes"])
    table = pd.DataFrame(
        {"file_name": [str(f.relative_to(photos)) for f in files], "colour": [f.parent.name for f in files]}
    )
    table.to_csv(photos / "metadata.csv", index=False)
    files[3].unlink()
    with pytest.raises(RequestError, match=r"row 3 of the column file_name names no file"):
        harness.find(photos / "metadata.csv", "colour", pixels=32)
    table["file_name"] = "../../../" + table["file_name"].iloc[0]
    table.to_csv(photos / "metadata.csv", index=False)
    with pytest.raises(RequestError, match=r"names no file|leads out of"):
        harness.find(photos / "metadata.csv", "colour", pixels=32)


WRONG: dict[str, tuple[list[str], str]] = {
    "no file": (["nowhere.csv", "--labels", "y"], "nowhere.csv is not there"),
    "no labels": (["data.csv"], "--labels is missing"),
    "wrong column": (["data.csv", "--labels", "diagnosys"], "did you mean 'diagnosis'?"),
    "wrong ignore": (["data.csv", "--labels", "diagnosis", "--ignore", "mean radios"], "did you mean 'mean radius'?"),
    "a number column": (["data.csv", "--labels", "mean radius"], "mean radius must be integers, booleans or text"),
    "one class": (["one.csv", "--labels", "y"], "all labels are of one class, a"),
    "damaged": (["torn.parquet", "--labels", "y"], "torn.parquet cannot be read as parquet"),
    "unknown form": (["data.xlsx", "--labels", "y"], "is of no known form"),
    "pickle": (["objects.npz"], "it holds Python objects, which are not read"),
    "empty folder": (["empty"], "in sub-folders, one per class"),
    "over the input": (["data.csv", "--labels", "diagnosis", "--clean", "data.csv"], "is the input"),
    "over another": (["data.csv", "--labels", "diagnosis", "--clean", "one.csv"], "one.csv exists already"),
    "method": (["data.csv", "--labels", "diagnosis", "--method", "self_confidense"], "did you mean 'self_confidence'?"),
    "no reference": (["data.csv", "--labels", "diagnosis", "--method", "datainf"], "datainf cannot score this data"),
    "folds": (["tiny.csv", "--labels", "y", "--folds", "9"], "folds=9 needs 9 samples, and there are 4"),
    "trailing commas": (["trailing.csv", "--labels", "y"], "lines have more fields than the header"),
    "semicolons": (["semi.csv", "--labels", "y"], "separated by semicolons"),
    "two names": (["twice.csv", "--labels", "y"], "two columns are called 'x'"),
    "latin": (["latin.csv", "--labels", "y"], "is not in UTF-8"),
    "json array": (["array.jsonl", "--labels", "y"], "one JSON object per line"),
    "folder": (["nowhere/", "--labels", "y"], "is not there"),
    "no groups": (["objects.npz", "--groups", "a"], "has no columns"),
    "none": (["data.csv", "--labels", "diagnosis", "--method", "none"], "flags nothing"),
    "how": (["data.csv", "--labels", "diagnosis", "--clean-how", "mark"], "goes with --clean FILE"),
    "one file": (["data.csv", "--labels", "diagnosis", "--clean", "x.csv", "--output", "x.csv"], "name one file"),
    "inside": (["photos", "--output", "photos/metadata.csv"], "lies in the folder of the data"),
    "no such folder": (["data.csv", "--labels", "diagnosis", "--clean", "no/x.csv"], "there is no folder"),
    "format": (["data.csv", "--labels", "diagnosis", "--clean", "x.xml"], "has no known format"),
    "no column": (["bare.csv", "--labels", "y"], "has no column left to learn from"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wrong")
    cancer()[0].to_csv(path / "data.csv", index=False)
    (path / "one.csv").write_text("x,y\n1,a\n2,a\n")
    (path / "tiny.csv").write_text("x,y\n5,a\n2,a\n3,b\n4,b\n")
    (path / "bare.csv").write_text("y\na\nb\n")
    (path / "torn.parquet").write_bytes(b"PAR1 not really")
    (path / "data.xlsx").write_bytes(b"PK")
    np.savez(path / "objects.npz", labels=np.array([{"a": 1}, None], dtype=object))
    (path / "trailing.csv").write_text("y,x\na,1,5\nb,2,6\n")
    (path / "semi.csv").write_text("x;y\n1;a\n2;b\n")
    (path / "twice.csv").write_text("x,x,y\n1,2,a\n2,3,b\n")
    (path / "latin.csv").write_bytes("x,y\ncaf\xe9,a\nb,b\n".encode("latin-1"))
    (path / "array.jsonl").write_text('[{"x": 1, "y": "a"}]')
    (path / "photos").mkdir()
    (path / "empty").mkdir()
    return path


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_sentence(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments, told = WRONG[case]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    code, _, err = call(capsys, "find", *arguments)

    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_the_task_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`own` is a task as others are: methods are crossed with it, and results are stored and listed."""
    table, _ = cancer()
    path = tmp_path / "my data, [v2] | 3.csv"
    table.to_csv(path, index=False)
    task = f'own[path="{path}",labels=diagnosis]'
    frame = harness.run("self_confidence,outlier_l2,random", task, 2, out=tmp_path / "o")
    assert set(frame["status"]) == {"ok"}
    code, out, err = call(
        capsys, "suspects", str(tmp_path / "o"), "--method", "self_confidence", "--top", "3", "--format", "csv"
    )
    assert code == 0, err
    assert out.startswith("rank,index,suspicion")
