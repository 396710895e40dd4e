"""What `find` reads: tables, texts, images, datasets and arrays, and what it takes columns for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_wine

import harness
from harness.errors import RequestError
from harness.finding.ask import find_errors
from reports.found_page import found_page
from tasks._own_columns import kind_of
from tests.own_data import NAMES, WRITERS, cancer, f1, in_order


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
