"""Writing a user's data again: without the suspects, with their labels replaced, or with columns that mark them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.own_data import Cleaning
from tasks._own_content import SEPARATORS, Content, separated
from tasks._own_folders import is_saved_dataset, saved_dataset
from tasks._own_samples import Labelled

if TYPE_CHECKING:
    import pandas as pd

MARKS = ("suspect", "suggested_label")
"""Columns that ``mark`` adds."""

FORMATS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt")

DONE = {"drop": "without {n} suspects", "relabel": "with {n} labels replaced", "mark": "with {n} suspects marked"}


def check(content: Content, path: Path) -> None:
    """Raise a `RequestError` if the data cannot be written to the path; called before anything is computed."""
    if path.exists():
        raise RequestError(f"--clean {path} exists already; give the name of a new file")
    suffix, source = path.suffix.lower(), Path(content.where).expanduser()
    if suffix not in (*FORMATS, ".npz", ""):
        raise RequestError(
            f"--clean {path} has no known format; its suffix may be {', '.join(FORMATS)}, .npz, or none for a dataset"
        )
    parent = path.absolute().parent
    if not parent.is_dir():
        raise RequestError(f"--clean {path}: there is no folder {parent}")
    if source.is_dir() and parent.resolve().is_relative_to(source.resolve()):
        raise RequestError(
            f"--clean {path} lies in the data's folder, and would be part of the data; give another folder"
        )
    arrays = source.suffix.lower() == ".npz"
    if arrays != (suffix == ".npz"):
        raise RequestError(f"--clean {path} does not fit {content.where}; give a name that ends with {source.suffix}")
    if suffix == "" and not (source.is_dir() and is_saved_dataset(source)):
        raise RequestError(
            f"--clean {path} has no suffix, which stands for a saved dataset, and {content.where} is none; "
            f"give {path}.csv"
        )
    if suffix == ".txt" and not (content.images is not None and content.label_column is None):
        raise RequestError(f"--clean {path} is a list of image files; it fits a folder with a sub-folder per class")


def write(content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]) -> str:
    """Write all rows of the data again, in the format that the path's suffix names. The input is never overwritten.

    A path without a suffix becomes a folder as ``save_to_disk`` writes it. ``.txt`` is a list of the image files that
    are kept. Rows without a label stay. If the format is the input's, other values stay as they are written.

    Args:
        suggested: the suggested class of each suspect, by row number in the data.

    Returns:
        What was written.

    Raises:
        RequestError: the path exists, or its format does not fit the data.
    """
    check(content, path)
    rows = np.array(sorted(suggested), dtype=np.int64)
    suffix, source = path.suffix.lower(), Path(content.where).expanduser()
    if suffix == ".txt" and how != "drop":
        raise RequestError(f"--clean {path} is a list of files, which has no labels; give --clean-how drop, or .csv")
    if suffix == "":
        kept = _write_dataset(content, labelled, path, how, suggested)
    elif suffix == ".npz":
        kept = _write_arrays(content, labelled, path, how, suggested)
    elif suffix in LINES and source.suffix.lower() in LINES and source.is_file():
        kept = _write_lines(content, labelled, path, how, suggested)
    else:
        table = _cleaned(
            _original(content, labelled, suffix), labelled, how, suggested, content.label_column or "label"
        )
        _whole(path, _writers(table)[suffix])
        kept = len(table)
    marks = f" Read it with --ignore {','.join(MARKS)}." if how == "mark" else ""
    return f"{path}: {kept} of {len(content)} rows, {DONE[how].format(n=len(rows))}.{marks}"


LINES = (".jsonl", ".ndjson")


def _original(content: Content, labelled: Labelled, suffix: str) -> pd.DataFrame:
    """The user's table. Values of a file of the same format stay as they are in the file."""
    import pandas as pd

    source = Path(content.where).expanduser()
    if source.is_file() and source.suffix.lower() in SEPARATORS and suffix in SEPARATORS:
        texts = separated(source, dtype=str, keep_default_na=False)
        if len(texts) == len(content):
            return texts
    if source.is_file() and source.suffix.lower() == suffix == ".parquet":
        return pd.read_parquet(source, dtype_backend="pyarrow")
    table = content.table.copy()
    if content.label_column is None:
        classes = np.array([*labelled.classes, ""], dtype=object)
        numbers = np.full(len(content), -1)
        numbers[labelled.rows] = labelled.labels
        table["label"] = classes[numbers]
    return table


def _write_arrays(content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]) -> int:
    """An ``.npz`` file with the arrays of the source. Arrays with one entry per row lose the rows of suspects."""
    with np.load(Path(content.where).expanduser(), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    n, rows = len(content), np.array(sorted(suggested), dtype=np.int64)
    name = next(key for key, values in arrays.items() if np.array_equal(values, content.labels))
    if how == "drop":
        keep = np.ones(n, dtype=bool)
        keep[rows] = False
        arrays = {key: values[keep] if values.shape[:1] == (n,) else values for key, values in arrays.items()}
    else:
        exemplars = _exemplars(labelled)
        labels = arrays[name].copy()
        labels[rows] = [labels[exemplars[suggested[row]]] for row in rows]
        if how == "relabel":
            arrays[name] = labels
        else:
            arrays[MARKS[0]], arrays[MARKS[1]] = np.isin(np.arange(n), rows), labels
    _whole(path, lambda to: np.savez(to, **arrays))
    return len(arrays[name])


def _write_lines(content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]) -> int:
    """JSON lines: the lines of the source, changed only where a label changes or a mark is added."""
    text = Path(content.where).expanduser().read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()]
    label, exemplars = str(content.label_column), _exemplars(labelled)
    made = []
    for row, line in enumerate(lines):
        if row not in suggested and how != "mark":
            made.append(line)
        elif how != "drop":
            record = json.loads(line)
            new = json.loads(lines[exemplars[suggested[row]]])[label] if row in suggested else None
            record |= {label: new} if how == "relabel" else {MARKS[0]: row in suggested, MARKS[1]: new}
            made.append(json.dumps(record, ensure_ascii=False))
    _whole(path, lambda to: to.write_text("".join(f"{line}\n" for line in made), encoding="utf-8"))
    return len(made)


def _exemplars(labelled: Labelled) -> dict[str, int]:
    """The first row of each class, by the class's name."""
    first: dict[str, int] = {}
    for row, number in zip(labelled.rows[::-1].tolist(), labelled.labels[::-1].tolist(), strict=True):
        first[labelled.classes[number]] = row
    return first


def _cleaned(
    table: pd.DataFrame, labelled: Labelled, how: Cleaning, suggested: Mapping[int, str], label: str
) -> pd.DataFrame:
    rows = np.array(sorted(suggested), dtype=np.int64)
    values = _as_written(table, labelled, label)
    if how == "drop":
        return table[~np.isin(np.arange(len(table)), rows)]
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
    column = table[label].to_numpy(dtype=object)
    return {name: column[row] for name, row in _exemplars(labelled).items()}


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
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"--clean {path} cannot be written: {told}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _write_dataset(
    content: Content, labelled: Labelled, path: Path, how: Cleaning, suggested: Mapping[int, str]
) -> int:
    source = Path(content.where).expanduser()
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
