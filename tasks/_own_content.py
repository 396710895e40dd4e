"""What a user's own data holds, whatever form it came in, and the reading of tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
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
    table = table.reset_index(drop=True)
    table.columns = [str(name) for name in table.columns]
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
    if images is None and folder is not None:
        named = next((n for n in IMAGE_COLUMNS if n in features and _names_images(table[n], folder)), None)
        if named is not None:
            features.remove(named)
            images = named, [folder / str(name) for name in table[named]]
    notes = []
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
        groups=None if groups is None else table[groups].astype(str).to_numpy(),
        notes=notes,
        label_column=labels,
    )


def read_table(path: Path) -> pd.DataFrame:
    """A table from a CSV, TSV, Parquet or JSON lines file.

    Raises:
        RequestError: the file cannot be read as its suffix says.
    """
    import pandas as pd

    readers: dict[str, Callable[[], pd.DataFrame]] = {
        ".csv": lambda: _separated(path, ","),
        ".tsv": lambda: _separated(path, "\t"),
        ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
    }
    readers[".ndjson"] = readers[".jsonl"]
    try:
        return readers[path.suffix.lower()]()
    except ImportError as error:
        raise RequestError(f"{path} needs pyarrow to be read; install the extra nlp, or pyarrow") from error
    except Exception as error:  # a damaged file can raise anything
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {told}") from error


def _separated(path: Path, separator: str) -> pd.DataFrame:
    """Quoted fields are unquoted, except in a TSV file whose quotes do not pair up, as those of GLUE."""
    import pandas as pd

    def read(quoting: int) -> pd.DataFrame:
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False, quoting=quoting)  # type: ignore[call-overload, no-any-return]

    if separator == "\t" and b'"' in path.read_bytes():
        plain = read(csv.QUOTE_NONE)
        try:
            unquoted = read(csv.QUOTE_MINIMAL)
        except Exception:  # quotes that never close
            return plain
        return unquoted if len(unquoted) == len(plain) else plain
    return read(csv.QUOTE_MINIMAL)


def listed(names: Sequence[Any] | pd.Index[Any], most: int = 8) -> str:
    """The first names, with how many more there are."""
    shown = [str(name) for name in names[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _names_images(column: pd.Series[Any], folder: Path) -> bool:
    from tasks._image_files import SUFFIXES

    names = column.dropna().astype(str)
    if len(names) < len(column) or not len(names) or not names.str.lower().str.endswith(SUFFIXES).all():
        return False
    return bool(all((folder / name).is_file() for name in names.iloc[:: max(1, len(names) // 20)]))
