"""GLUE's tasks as texts and labels: from the original TSV files, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.files import VARIABLE, data_folder
from harness.errors import RequestError
from tasks._class_labels import UNLABELLED, as_texts

HUB = "nyu-mll/glue"
MOST_BROKEN = 0.01
"""Largest share of broken rows that are left out with a warning; the published QQP has a few broken rows."""
FEWEST = 0.1
"""If the smaller class has fewer rows than this share of the rows labelled -1, -1 is probably a class: an error."""
SEVERAL = 10
"""A file with at least this number of rows must have more than one class."""
SPLITS = {"train": "train", "dev": "validation"}
"""The hub's names of the files' splits."""


@dataclass(frozen=True)
class Source:
    """The place of a task's rows, and the names of its columns.

    Args:
        folder: the folder of the TSV files ``train.tsv`` and ``dev.tsv``.
        config: the name of the task on the hub.
        texts: the possible column names of each of the one or two texts.
        label: the possible column names of the label.
        names: the class names, in the hub's order. A file may have class numbers instead.
    """

    folder: str
    config: str
    texts: tuple[tuple[str, ...], ...]
    label: tuple[str, ...]
    names: tuple[str, ...]


QNLI = Source("QNLI", "qnli", (("question",), ("sentence",)), ("label",), ("entailment", "not_entailment"))
SST2 = Source("SST-2", "sst2", (("sentence",),), ("label",), ("negative", "positive"))
QQP = Source("QQP", "qqp", (("question1",), ("question2",)), ("is_duplicate", "label"), ("not_duplicate", "duplicate"))
MRPC = Source(
    "MRPC",
    "mrpc",
    (("sentence1", "#1 String"), ("sentence2", "#2 String")),
    ("label", "Quality"),
    ("not_equivalent", "equivalent"),
)


@dataclass(frozen=True)
class Texts:
    """Rows of one split: texts, one or two per row, and class numbers (n,) int64."""

    texts: Sequence[tuple[str, ...]]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Texts:
        """Some rows, in that order."""
        return Texts([self.texts[row] for row in rows], self.labels[rows])


def folder_of(source: Source) -> Path | None:
    """The folder of a task's TSV files below the data folder; None if it is not there."""
    for place in (data_folder(), data_folder() / "glue", data_folder() / "glue_data"):
        if (place / source.folder / "train.tsv").is_file():
            return place / source.folder
    return None


def read(source: Source, split: str, folder: Path | None) -> Texts:
    """The labelled rows of ``train`` or ``dev``.

    Rows without a label (-1) and a few broken rows are left out, with a warning.

    Args:
        folder: the folder of the TSV files; None reads from the hub.

    Raises:
        RequestError: many rows are broken, a column or label is unknown, no row has a label, or the data are missing.
            The message for missing data says both ways to get the data.
    """
    if folder is None:
        where = f"{HUB} {source.config} {SPLITS[split]}"
        rows, left_out = _collected(source, _from_hub(source, split), where)
    else:
        where = str(folder / f"{split}.tsv")
        rows, left_out = _collected(source, _from_tsv(folder / f"{split}.tsv"), where)
        _check_classes(source, rows, len(left_out), where)
    if left_out:
        warnings.warn(f"{where}: {len(left_out)} rows without a label left out; the first: {left_out[0]}", stacklevel=2)
    return rows


def _check_classes(source: Source, rows: Texts, left_out: int, where: str) -> None:
    """Refuse a file of one class, or of one class and -1 as the other."""
    counts = np.bincount(rows.labels, minlength=len(source.names))
    if left_out and counts.min() < FEWEST * left_out:  # a file of one's own, whose classes are -1 and 1
        raise RequestError(
            f"{where}: almost every labelled row is of the class {source.names[int(counts.argmax())]}, and {left_out} "
            f"rows have no label, as -1 says; write the classes as 0 and 1, or as {' and '.join(source.names)}"
        )
    if len(rows) >= SEVERAL and counts.max() == len(rows):
        raise RequestError(f"{where}: all rows are of the class {source.names[int(counts.argmax())]}; give both")


def digest(folder: Path | None) -> str:
    """A hash of the TSV files, which identifies the data; empty for data from the hub."""
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for split in SPLITS:
        try:
            with (folder / f"{split}.tsv").open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise RequestError(f"{folder / split}.tsv cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]


def missing(source: Source) -> str:
    """Both ways to get the data of a task, as the end of a sentence."""
    return (
        f"put the original files as {source.folder}/train.tsv and {source.folder}/dev.tsv in a folder and name that by "
        f"--data-dir or {VARIABLE}, or let `datasets` fetch {HUB} ({source.config}) once with a network"
    )


def _from_tsv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row by column) of a tab-separated file with a header and no quoting."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    header = [name.strip() for name in lines[0].rstrip("\r").split("\t")]
    broken: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip("\r"):
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) == len(header):
            yield f"{path}, line {number}", dict(zip(header, cells, strict=True))
        else:
            broken.append(f"line {number} has {len(cells)} fields where the header has {len(header)}")
    if not broken:
        return
    told = f"{path}: {broken[0]}" + (f", and {len(broken) - 1} more rows are broken" if len(broken) > 1 else "")
    if len(broken) > MOST_BROKEN * len(lines):
        raise RequestError(f"{told}; these are no rows of the original files")
    warnings.warn(f"{told}; left out", stacklevel=2)


def _from_hub(source: Source, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import datasets
    except ImportError as error:
        raise RequestError(
            f"GLUE's {source.folder} is not there; {missing(source)} (pip install 'influence-harness[nlp]')"
        ) from error
    named = SPLITS[split]
    try:
        rows = datasets.load_dataset(HUB, source.config, split=named)
    except Exception as error:  # the hub's client raises many kinds
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise RequestError(f"GLUE's {source.folder} cannot be had: {missing(source)} ({reason})") from error
    for number, row in enumerate(rows):
        yield f"{HUB} {source.config} {named}, row {number}", row


def _collected(source: Source, rows: Iterator[tuple[str, Mapping[str, Any]]], where: str) -> tuple[Texts, list[str]]:
    """The labelled rows, and the places (file and line) of the rows without a label."""
    texts: list[tuple[str, ...]] = []
    labels: list[int] = []
    columns: list[str] = []
    left_out: list[str] = []
    for place, row in rows:
        if not columns:
            columns = [_column(source, names, row, where) for names in (*source.texts, source.label)]
        label = _number(source, row[columns[-1]], place)
        if label is None:
            left_out.append(place)
            continue
        texts.append(tuple(str(row[column] or "") for column in columns[:-1]))
        labels.append(label)
    if not texts:
        raise RequestError(f"{where} has no row with a label")
    return Texts(texts, np.array(labels, dtype=np.int64)), left_out


def _column(source: Source, names: Sequence[str], row: Mapping[str, Any], where: str) -> str:
    column = next((name for name in names if name in row), None)
    if column is None:
        raise RequestError(
            f"{where} has no column {' or '.join(names)}, as {source.folder} has; it has {', '.join(row)}"
        )
    return column


def _number(source: Source, label: Any, place: str) -> int | None:
    """The class number of a label that is a number or a name; None for -1 or a missing label.

    `tasks._class_labels` says how a number or a missing label may be written.
    """
    text = str(as_texts(np.array([label], dtype=object))[0])
    if text in (UNLABELLED, ""):
        return None
    if text in source.names:
        return source.names.index(text)
    if text in [str(number) for number in range(len(source.names))]:
        return int(text)
    raise RequestError(
        f"{place}: the label {text[:40]!r} is none of {source.folder}'s: {', '.join(source.names)}, 0, 1"
    )
