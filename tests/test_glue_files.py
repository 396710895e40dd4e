"""GLUE's files and the hub's rows: layouts, labels, and what is wrong with a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import RequestError
from tasks import _glue_files as files
from tasks._glue_files import MRPC, QNLI, QQP, SST2, Source, digest, folder_of, read


def written(folder: Path, text: str, source: Source = SST2, split: str = "train") -> Path:
    place = folder / source.folder
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{split}.tsv").write_text(text, "utf-8")
    return place


def test_the_original_layouts(tmp_path: Path) -> None:
    found = {
        QNLI: "index\tquestion\tsentence\tlabel\n7\tWho?\tHe did.\tnot_entailment\n8\tWhy?\tFor it.\tentailment\n",
        SST2: 'sentence\tlabel\na "quoted word \t1\n\t0\n',
        QQP: "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\r\n0\tNA\tNA\tIs it?\tIs that it?\t1\r\n",
        MRPC: '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\t" One .\tTwo .\n',
    }
    rows = {source: read(source, "train", written(tmp_path, text, source)) for source, text in found.items()}
    assert (rows[QNLI].texts, rows[QNLI].labels.tolist()) == ([("Who?", "He did."), ("Why?", "For it.")], [1, 0])
    assert (rows[SST2].texts, rows[SST2].labels.tolist()) == ([('a "quoted word ',), ("",)], [1, 0])
    assert (rows[QQP].texts, rows[QQP].labels.tolist()) == ([("Is it?", "Is that it?")], [1])
    assert (rows[MRPC].texts, rows[MRPC].labels.tolist()) == ([('" One .', "Two .")], [0])


def test_columns_and_labels_as_the_hub_names_them(tmp_path: Path) -> None:
    place = written(tmp_path, "sentence1\tsentence2\tlabel\tidx\na\tb\tequivalent\t0\nc\td\t0\t1\n", MRPC)
    assert read(MRPC, "train", place).labels.tolist() == [1, 0]


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    place = written(tmp_path, "sentence\tlabel\nyes\t1\nunknown\t-1\nno\t0\n", split="dev")
    found = read(SST2, "dev", place)
    assert (found.texts, found.labels.tolist()) == ([("yes",), ("no",)], [1, 0])
    with pytest.raises(RequestError, match=r"dev\.tsv has no row with a label"):
        read(SST2, "dev", written(tmp_path / "none", "sentence\tlabel\nyes\t-1\n", split="dev"))


@pytest.mark.parametrize("label", ["{}.0", " {} ", "+{}"])
def test_numbers_may_be_written_as_pandas_writes_them(tmp_path: Path, label: str) -> None:
    rows = "\n".join(f"text\t{label.format(k)}" for k in (0, 1, 1)) + "\nnone\tnan\nnone\t\n"

    with pytest.warns(UserWarning, match=r"2 rows without a label left out; the first: .*line 5"):
        found = read(SST2, "train", written(tmp_path, f"sentence\tlabel\n{rows}"))

    assert found.labels.tolist() == [0, 1, 1]


def test_minus_one_as_a_class_is_refused(tmp_path: Path) -> None:
    place = written(tmp_path, "sentence\tlabel\na\t-1\nb\t1\nc\t-1\n")
    with pytest.raises(RequestError, match=r"labelled row is of the class positive, and 2 rows have no label"):
        read(SST2, "train", place)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("stray", [0, 1])
def test_files_of_practically_one_class_are_refused(tmp_path: Path, stray: int) -> None:
    labels = [1, -1] * 40 + [0] * stray
    for number, told in ((labels, "almost every labelled row"), ([1] * 20, "all rows are of the class positive")):
        text = "sentence\tlabel\n" + "".join(f"text\t{k}\n" for k in number)
        place = written(tmp_path, text)
        with pytest.raises(RequestError, match=told):
            read(SST2, "train", place)


@pytest.mark.parametrize("label", ["²", "9" * 5000, "٣"])
def test_odd_digits_are_no_labels(tmp_path: Path, label: str) -> None:
    place = written(tmp_path, f"sentence\tlabel\na\t{label}\n")
    with pytest.raises(RequestError, match="is none of SST-2's"):
        read(SST2, "train", place)


def test_a_few_broken_rows_are_left_out_with_a_warning(tmp_path: Path) -> None:
    rows = [f"text {i}\t{i % 2}" for i in range(300)]
    rows[40] = "a field too\tmany\t1"
    with pytest.warns(UserWarning, match=r"train\.tsv: line 42 has 3 fields where the header has 2; left out"):
        found = read(SST2, "train", written(tmp_path, "\n".join(["sentence\tlabel", *rows])))
    assert len(found) == 299
    rows[41:60] = ["no label"] * 19
    with pytest.raises(RequestError, match=r"line 42 has 3 fields .*, and 19 more rows are broken; these are no rows"):
        read(SST2, "train", written(tmp_path, "\n".join(["sentence\tlabel", *rows])))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"sentence\tlabels\na\t1\n", r"train.tsv has no column label, as SST-2 has; it has sentence, labels"),
        (b"sentence\tlabel\na\tgood\n", r"line 2: the label 'good' is none of SST-2's: negative, positive, 0, 1"),
        (b"sentence\tlabel\na\t2\n", r"line 2: the label '2' is none of SST-2's"),
        (b"sentence\tlabel\ncaf\xe9\t1\n", r"train.tsv is not UTF-8 text: invalid continuation byte at byte 18"),
        (b"", r"train.tsv has no row with a label"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, sentence: str) -> None:
    place = written(tmp_path, "")
    (place / "train.tsv").write_bytes(content)
    with pytest.raises(RequestError, match=sentence):
        read(SST2, "train", place)
    with pytest.raises(RequestError, match="No such file"):
        read(SST2, "dev", place)


def test_where_the_folder_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    assert folder_of(SST2) is None
    place = written(tmp_path / "glue_data", "sentence\tlabel\na\t1\n")
    assert folder_of(SST2) == place
    with pytest.raises(RequestError, match=r"dev\.tsv cannot be read: No such file"):
        digest(place)
    written(tmp_path / "glue_data", "sentence\tlabel\na\t1\n", split="dev")
    before = digest(place)
    written(tmp_path / "glue_data", "sentence\tlabel\na\t0\n", split="dev")
    assert before != digest(place) != digest(None) == ""


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load_dataset(*arguments: Any, **named: Any) -> list[dict[str, Any]]:
        asked.append((*arguments, named["split"]))
        return [{"question1": "a", "question2": None, "label": 1, "idx": 0}, {"question1": "b", "question2": "c",
                "label": -1, "idx": 1}]  # fmt: skip

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read(QQP, "dev", None)
    assert (found.texts, found.labels.tolist()) == ([("a", "")], [1])
    assert asked == [("nyu-mll/glue", "qqp", "validation")]


def test_without_files_or_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(
        RequestError, match=r"put the original files as SST-2/train\.tsv and SST-2/dev\.tsv in a folder"
    ):
        read(SST2, "train", None)


@pytest.mark.data
@pytest.mark.parametrize("source", [QNLI, SST2, QQP, MRPC], ids=lambda source: source.folder)
def test_the_real_files(source: Source) -> None:
    folder = folder_of(source)
    if folder is None:
        pytest.skip(f"HARNESS_DATA has no {source.folder}/train.tsv")
    rows = [line for line in (folder / "dev.tsv").read_text("utf-8-sig").splitlines()[1:] if line]
    found = read(source, "dev", folder)
    assert len(found) == len(rows)
    assert set(found.labels.tolist()) == {0, 1}
    assert all(text.strip() for row in found.texts for text in row)
    named = np.array([(files.QNLI.names.index(row.split("\t")[-1]) if source is QNLI else -1) for row in rows])
    assert source is not QNLI or np.array_equal(named, found.labels)
