"""What a user's own data holds, whatever form it came in, and the reading of tables."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError, unknown

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
"""Suffixes of the files that are read as tables."""

IMAGE_COLUMNS = ("file_name", "image", "file", "filename", "path", "image_path", "img")
"""Columns of a table that may hold the files of images, first the name that Hugging Face's image folders use."""


@dataclass(frozen=True, eq=False)
class Content:
    """All rows of a user's data, those without a label included.

    Args:
        where: the path, or what stands for an object in memory; for messages.
        table: the user's own columns, without pictures. The index is the row number.
        labels: the given labels as they are in the data, (N,).
        features: columns of ``table`` that a model may see.
        images: files, encoded images, or arrays (h, w[, 3]) uint8; None if the samples are no images.
        values: feature vectors, (N, d), given as such; None if features are made from the columns or images.
        probs: class probabilities (N, c), given as such.
        groups: the group of each row, (N,), for cross-validation.
        notes: what was read, one sentence each.
        label_column: the column of ``table`` with the labels; None where labels came from folders or arrays.
    """

    where: str
    table: pd.DataFrame
    labels: np.ndarray
    features: Sequence[str] = ()
    images: Sequence[Any] | None = None
    values: np.ndarray | None = None
    probs: np.ndarray | None = None
    groups: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    label_column: str | None = None

    def __len__(self) -> int:
        return len(self.labels)


def of_table(
    where: str,
    table: pd.DataFrame,
    labels: str | None,
    ignore: Sequence[str],
    groups: str | None,
    folder: Path | None = None,
    images: tuple[str, Sequence[Any]] | None = None,
) -> Content:
    """The content of a table with named columns.

    Args:
        folder: where the files that a column names lie; None if no column names files.
        images: the name of a column that held pictures, and the pictures.

    Raises:
        RequestError: no such column, or no column left to learn from.
    """
    import pandas as pd

    named = any(name is not None for name in table.index.names)
    table = table.reset_index(drop=not named)  # an index with a name is a column of the user's
    several = isinstance(table.columns, pd.MultiIndex)
    table.columns = [" ".join(map(str, name)) if several else str(name) for name in table.columns]
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise RequestError(f"{where} has two columns called {twice!r}; give every column a name of its own")
    if not len(table):
        raise RequestError(f"{where} has no rows")
    if labels is None:
        raise RequestError(f"--labels is missing: which column of {where} has the labels? {listed(table.columns)}")
    for option, names in (("--labels", [labels]), ("--ignore", ignore), ("--groups", [groups] if groups else [])):
        for name in names:
            if name not in table.columns:
                error = unknown(f"column {option}", name, table.columns)
                raise RequestError(f"{where}: {error}")
    if labels in ignore:
        raise RequestError(f"--ignore {labels} is the column of the labels; give another column")
    features = [name for name in table.columns if name not in {labels, groups, *ignore}]
    same = [name for name in features if _tells_the_label(table[name], table[labels])]
    features = [name for name in features if name not in same]
    if images is None and folder is not None:
        named_column = next((n for n in IMAGE_COLUMNS if n in features and _names_images(table[n])), None)
        if named_column is not None:
            features.remove(named_column)
            images = named_column, _files(where, table[named_column], folder)
    notes = [f"The column {name} is left out, because every label has one value of it." for name in same]
    if images is not None:
        notes.append(f"The images of the column {images[0]} are the samples; no model sees the other columns.")
    elif not features:
        raise RequestError(
            f"{where} has no column left to learn from beside {labels!r}; it has {listed(table.columns)}"
        )
    return Content(
        where,
        table,
        table[labels].to_numpy(),
        features,
        images=None if images is None else images[1],
        groups=None if groups is None else _groups(table[groups]),
        notes=notes,
        label_column=labels,
    )


def read_table(path: Path, labels: str | None = None) -> pd.DataFrame:
    """A table from a CSV, TSV, Parquet or JSON lines file.

    Args:
        labels: a column in whose values words such as ``NA`` and ``None`` are words, and only empty means missing.

    Raises:
        RequestError: the file cannot be read as its suffix says.
    """
    import pandas as pd

    suffix = path.suffix.lower()
    try:
        if suffix in SEPARATORS:
            return separated(path, labels)
        if suffix == ".parquet":
            return pd.read_parquet(path)
        with path.open(encoding="utf-8-sig") as file:
            if file.read(1000).lstrip().startswith("["):
                raise ValueError("it is one JSON array; write one JSON object per line")
        return pd.read_json(path, lines=True, dtype=False)
    except ImportError as error:
        raise RequestError(f"{path} needs pyarrow to be read; install the extra nlp, or pyarrow") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not in UTF-8; save it in UTF-8") from error
    except Exception as error:  # a damaged file can raise anything
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(f"{path} cannot be read as {suffix[1:]}: {told}") from error


NOT_THERE = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
"""What pandas takes for a missing value unless it is told otherwise."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def separated(path: Path, labels: str | None = None, **options: Any) -> pd.DataFrame:
    """A table of separated fields. Quotes stay in a TSV file whose quotes do not pair up, as those of GLUE.

    Args:
        labels: as for `read_table`.
        options: further arguments of `pandas.read_csv`.

    Raises:
        ValueError: two columns have one name, or lines have more fields than the header.
    """
    import pandas as pd

    separator = SEPARATORS[path.suffix.lower()]

    def read(quoting: int) -> pd.DataFrame:
        header = next(csv.reader([_first_line(path)], delimiter=separator, quoting=quoting), [])  # type: ignore[arg-type]
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise ValueError(f"two columns are called {twice[0]!r}; give every column a name of its own")
        if len(header) == 1 and ";" in header[0] and separator == ",":
            raise ValueError("its fields are separated by semicolons; separate them by commas")
        words: dict[str, Any] = {}
        if labels in header and not options:
            others = {name: NOT_THERE for name in header if name != labels}
            words = {"keep_default_na": False, "na_values": {**others, labels: [""]}, "dtype": {labels: str}}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                return pd.read_csv(  # type: ignore[call-overload, no-any-return]
                    path, sep=separator, encoding="utf-8-sig", low_memory=False, quoting=quoting, index_col=False,
                    **words, **options,
                )  # fmt: skip
            except pd.errors.ParserWarning as error:
                raise ValueError("lines have more fields than the header, maybe commas at their ends") from error

    if separator == "\t" and b'"' in path.read_bytes():
        plain = read(csv.QUOTE_NONE)
        try:
            unquoted = read(csv.QUOTE_MINIMAL)
        except Exception:  # quotes that never close
            return plain
        return unquoted if len(unquoted) == len(plain) else plain
    return read(csv.QUOTE_MINIMAL)


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.readline().rstrip("\r\n")


def listed(names: Sequence[Any] | pd.Index[Any], most: int = 8) -> str:
    """The first names, with how many more there are."""
    shown = [str(name) for name in names[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _names_images(column: pd.Series[Any]) -> bool:
    from tasks._image_files import SUFFIXES

    names = column.dropna().astype(str).str.lower()
    return len(names) > 0 and float(names.str.endswith(SUFFIXES).mean()) > 0.5


def _files(where: str, column: pd.Series[Any], folder: Path) -> list[Path]:
    """The files that a column names.

    Raises:
        RequestError: a file is missing, or a row names none.
    """
    files = []
    for row, name in enumerate(column):
        if not isinstance(name, str) or not (folder / name).is_file():
            raise RequestError(f"{where}: row {row} of the column {column.name} names no file of {folder}: {name}")
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise RequestError(f"{where}: row {row} of the column {column.name} leads out of {folder}: {name}")
        files.append(folder / name)
    return files


def _tells_the_label(column: pd.Series[Any], labels: pd.Series[Any]) -> bool:
    """Whether each label has one value of the column, and each value one label: a copy of the labels in other words."""
    import pandas as pd

    known = labels.notna()
    try:
        values, names = pd.factorize(column[known])[0], pd.factorize(labels[known])[0]
    except TypeError:  # values that cannot be hashed, such as lists
        return False
    classes = int(names.max(initial=-1)) + 1
    if classes < 2 or len(names) <= classes or int(values.max(initial=-1)) + 1 != classes or (values < 0).any():
        return False
    return len(set(zip(values.tolist(), names.tolist(), strict=True))) == classes


def _groups(column: pd.Series[Any]) -> np.ndarray:
    """Group numbers, (N,). A row without a group is a group of its own."""
    import pandas as pd

    numbers = pd.factorize(column)[0].astype(np.int64)
    missing = numbers < 0
    numbers[missing] = numbers.max(initial=0) + 1 + np.arange(int(missing.sum()))
    return numbers
