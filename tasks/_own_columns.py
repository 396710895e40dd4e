"""Features of the columns of a user's table, by scikit-learn's transformers. No label is used."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import RequestError
from tasks._own_content import listed

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "text", "left out"]

MOST_CATEGORIES = 40
"""A categorical column's rarer values share one feature beyond this number of values."""

COMPONENTS = 256
"""Dimensions to which the TF-IDF weights of a text column are reduced."""

MOST_TERMS = 50_000

LOOKED_AT = 20_000
"""Rows from which a column's kind is read."""


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Args:
        reason: of the kind, for a column that is left out.
    """

    name: str
    kind: Kind
    reason: str = ""


def kind_of(name: str, column: pd.Series[Any]) -> Column:
    """How a column is used.

    Numbers, booleans and times are numbers. Texts are categories if few of the values are different, texts if they have
    several words, and otherwise names of single rows, from which nothing can be learned.
    """
    import pandas as pd

    known = column.dropna()
    if not len(known):
        return Column(name, "left out", "has no values")
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        if pd.api.types.is_complex_dtype(column.dtype):
            return Column(name, "left out", "has complex numbers")
        if known.nunique() == 1 and len(known) == len(column):
            return Column(name, "left out", "has one value only")
        if pd.api.types.is_integer_dtype(column.dtype) and len(column) > 2 and (np.diff(column.to_numpy()) == 1).all():
            return Column(name, "left out", "numbers the rows")
        return Column(name, "number")
    some = known.iloc[:: max(1, len(known) // LOOKED_AT)]
    if not all(isinstance(value, str | bool | int | float) for value in some):
        return Column(name, "left out", f"holds values of type {type(some.iloc[0]).__name__}")
    texts = known.astype(str)
    different = texts.nunique()
    if different == 1 and len(known) == len(column):
        return Column(name, "left out", "has one value only")
    words = float(np.mean([len(str(value).split()) for value in some]))
    if different <= max(MOST_CATEGORIES, len(known) // 20) and words < 6:
        return Column(name, "category")
    if words >= 2:
        return Column(name, "text")
    if different > 0.5 * len(known):
        return Column(name, "left out", "has a value of its own in most rows")
    return Column(name, "category")


def features_of(
    table: pd.DataFrame, names: Sequence[str], where: str, text_encoder: str = ""
) -> tuple[np.ndarray, list[str], bool]:
    """Features of some columns.

    Numbers are standardised; missing numbers become the median, with a feature that says so. Categories are one-hot.
    Texts are TF-IDF weights of words and pairs of words, reduced by a singular value decomposition.

    Args:
        text_encoder: a text encoder of transformers instead of TF-IDF; see `tasks._own_texts`.

    Returns:
        features (N, d) float32, what was done, one sentence per kind, and whether a column is a text.

    Raises:
        RequestError: no column can be used.
    """
    kinds = [kind_of(name, table[name]) for name in names]
    blocks, notes = [], []
    tfidf = "text, as TF-IDF weights of words and word pairs, reduced to at most 256 dimensions"
    for kind, made_by, told in (
        ("number", _numbers, "standardised numbers; a missing number becomes the median, with a feature that says so"),
        ("category", _categories, "one-hot categories"),
        ("text", partial(_texts, encoder=text_encoder), f"text, seen by {text_encoder}" if text_encoder else tfidf),
    ):
        chosen = [column.name for column in kinds if column.kind == kind]
        if chosen:
            blocks.append(made_by(table[chosen]))
            notes.append(f"{len(chosen)} of the columns are {told}: {listed(chosen, 5)}.")
    for column in kinds:
        if column.kind == "left out":
            notes.append(f"The column {column.name} is left out, because it {column.reason}.")
    if not blocks:
        raise RequestError(f"{where} has no column to learn from; {' '.join(notes)}")
    return np.hstack(blocks), notes, any(column.kind == "text" for column in kinds)


def _numbers(table: pd.DataFrame) -> np.ndarray:
    import pandas as pd

    values = np.empty((len(table), table.shape[1]), dtype=np.float32)
    flags = []
    for k, name in enumerate(table.columns):
        column = table[name]
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            numbers = (column - column.min()).dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        missing = np.isnan(numbers)
        if missing.all():
            values[:, k] = 0
            continue
        if missing.any():
            flags.append(missing.astype(np.float32))
            numbers = np.where(missing, np.nanmedian(numbers), numbers)
        values[:, k] = _standardised(numbers)
    return np.column_stack([values, *flags]) if flags else values


MOST_DEVIATIONS = 10.0
"""Standardised numbers are cut off here, so that one outlier cannot decide a linear model."""


def _standardised(numbers: np.ndarray) -> np.ndarray:
    scale = np.abs(numbers).max()  # so that no square leaves the range of float64
    numbers = numbers / scale if scale > 0 else numbers
    deviation = numbers.std()
    if deviation == 0:
        return np.zeros(len(numbers))
    return np.asarray(np.clip((numbers - numbers.mean()) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS))


def _categories(table: pd.DataFrame) -> np.ndarray:
    from sklearn.preprocessing import OneHotEncoder

    texts = table.astype(object).where(table.notna(), "").astype(str)
    encoder = OneHotEncoder(max_categories=MOST_CATEGORIES, sparse_output=False, dtype=np.float32)
    return np.asarray(encoder.fit_transform(texts))


def _texts(table: pd.DataFrame, encoder: str) -> np.ndarray:
    texts = [table[name].fillna("").astype(str) for name in table.columns]
    if encoder:
        from tasks._own_texts import text_features

        return np.hstack([text_features(column.tolist(), encoder) for column in texts])
    return np.hstack([_text(column) for column in texts])


def _text(texts: pd.Series[Any]) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    least = 2 if len(texts) >= 200 else 1
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=least, max_features=MOST_TERMS, sublinear_tf=True, dtype=np.float32
    )
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no word at all, such as a column of punctuation
        return np.zeros((len(texts), 1), dtype=np.float32)
    size = min(COMPONENTS, weights.shape[1] - 1, len(texts) - 1)
    if size < 2:
        return np.asarray(weights.toarray(), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the explained variance of constant weights is 0/0
        reduced = TruncatedSVD(size, random_state=0).fit_transform(weights)
    return np.asarray(reduced, dtype=np.float32)
