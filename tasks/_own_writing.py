"""Writing a user's data again: without the suspects, with their labels replaced, or with columns that mark them."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.own_data import Cleaning
from tasks._own_content import Content
from tasks._own_folders import is_saved_dataset, saved_dataset
from tasks._own_samples import Labelled

if TYPE_CHECKING:
    import pandas as pd

MARKS = ("suspect", "suggested_label")
"""Columns that ``mark`` adds."""

FORMATS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt")

DONE = {"drop": "without {n} suspects", "relabel": "with {n} labels replaced", "mark": "with {n} suspects marked"}


def write(content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]) -> str:
    """Write all rows of the data again, in the format that the path's suffix names. The input is never overwritten.

    A path without a suffix becomes a folder as ``save_to_disk`` writes it. ``.txt`` is a list of the image files that
    are kept. Rows without a label stay.

    Args:
        suggested: the suggested class of each suspect, by row number in the data.

    Returns:
        What was written.

    Raises:
        RequestError: the path exists, or its format does not fit the data.
    """
    if path.exists():
        raise RequestError(f"--clean {path} exists already; give the name of a new file")
    if path.suffix.lower() not in (*FORMATS, ""):
        raise RequestError(
            f"--clean {path} has no known format; its suffix may be {', '.join(FORMATS)}, or none for a dataset"
        )
    if not path.absolute().parent.is_dir():
        raise RequestError(f"--clean {path}: there is no folder {path.absolute().parent}")
    rows = np.array(sorted(suggested), dtype=np.int64)
    if path.suffix == "":
        kept = _write_dataset(content, labelled, path, how, suggested)
    else:
        table = _cleaned(_original(content, labelled), labelled, how, suggested, content.label_column or "label")
        files = content.images is not None and content.label_column is None
        if path.suffix.lower() == ".txt" and not (files and how == "drop"):
            raise RequestError(f"--clean {path} is a list of files; it fits a folder of images and drop")
        _whole(path, _writers(table)[path.suffix.lower()])
        kept = len(table)
    return f"{path}: {kept} of {len(content)} rows, {DONE[how].format(n=len(rows))}."


def _original(content: Content, labelled: Labelled) -> pd.DataFrame:
    """The user's table. Values of a CSV or TSV file stay the texts that they are in the file."""
    import pandas as pd

    source = Path(content.where).expanduser()
    separator = {".csv": ",", ".tsv": "\t"}.get(source.suffix.lower())
    if separator is not None and source.is_file():
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            texts = pd.read_csv(
                source, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", quoting=quoting
            )
            if len(texts) == len(content):
                return texts
    table = content.table.copy()
    if content.label_column is None:
        classes = np.array([*labelled.classes, ""], dtype=object)
        numbers = np.full(len(content), -1)
        numbers[labelled.rows] = labelled.labels
        table["label"] = classes[numbers]
    return table


def _cleaned(
    table: pd.DataFrame, labelled: Labelled, how: Cleaning, suggested: Mapping[int, str], label: str
) -> pd.DataFrame:
    rows = np.array(sorted(suggested), dtype=np.int64)
    values = _as_written(table, labelled, label)
    if how == "drop":
        return table.drop(index=table.index[rows])
    new = [values[suggested[row]] for row in rows]
    if how == "relabel":
        column = table[label].astype(object)
        column.iloc[rows] = new
        table[label] = column.astype(table[label].dtype) if len(rows) else table[label]
        return table
    if set(MARKS) & set(table.columns):
        raise RequestError(f"--clean mark adds the columns {' and '.join(MARKS)}, and the data has such a column")
    marked = np.zeros(len(table), dtype=bool)
    marked[rows] = True
    told = np.full(len(table), None, dtype=object)
    told[rows] = new
    return table.assign(**{MARKS[0]: marked, MARKS[1]: told})


def _as_written(table: pd.DataFrame, labelled: Labelled, label: str) -> dict[str, Any]:
    """Each class as the label column writes it, from the first sample of the class."""
    first = {}
    for row, number in zip(labelled.rows[::-1], labelled.labels[::-1], strict=True):
        first[labelled.classes[number]] = row
    column = table[label].to_numpy(dtype=object)
    return {name: column[row] for name, row in first.items()}


def _writers(table: pd.DataFrame) -> dict[str, Callable[[Path], Any]]:
    def lines(to: Path) -> None:
        table.to_json(to, orient="records", lines=True, force_ascii=False)

    return {
        ".csv": lambda to: table.to_csv(to, index=False),
        ".tsv": lambda to: table.to_csv(to, index=False, sep="\t"),
        ".parquet": lambda to: table.to_parquet(to, index=False),
        ".jsonl": lines,
        ".ndjson": lines,
        ".txt": lambda to: to.write_text("".join(f"{name}\n" for name in table.iloc[:, 0])),
    }


def _whole(path: Path, writer: Callable[[Path], Any]) -> None:
    """Write to a temporary file, then move the file into place."""
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, suffix=path.suffix)
    os.close(handle)
    try:
        writer(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except Exception as error:
        raise RequestError(f"--clean {path} cannot be written: {(str(error) or type(error).__name__)}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _write_dataset(
    content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]
) -> int:
    source = Path(content.where).expanduser()
    if not (source.is_dir() and is_saved_dataset(source)):
        raise RequestError(
            f"--clean {path} has no suffix, which stands for a saved dataset, and {content.where} is none; "
            f"give {path}.csv"
        )
    dataset, label = saved_dataset(source), content.label_column
    rows = sorted(suggested)
    if how == "drop":
        dropped = set(rows)
        dataset = dataset.select([row for row in range(len(dataset)) if row not in dropped])
    else:
        plain = dataset.select_columns([label]).with_format(None).to_pandas()
        cleaned = _cleaned(plain, labelled, how, suggested, str(label))
        if how == "relabel":
            feature = dataset.features[label]
            order = dataset.column_names
            dataset = dataset.remove_columns(label).add_column(label, cleaned[label].tolist(), feature=feature)
            dataset = dataset.select_columns(order)
        else:
            for name in MARKS:
                dataset = dataset.add_column(name, cleaned[name].tolist())
    temporary = tempfile.mkdtemp(dir=path.absolute().parent)
    try:
        dataset.save_to_disk(temporary)
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(dataset)
