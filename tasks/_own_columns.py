"""Features of the columns of a user's table, by scikit-learn's transformers. No label is used."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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
        if (
            pd.api.types.is_integer_dtype(column.dtype)
            and len(known) == len(column)
            and _numbers_rows(column.to_numpy())
        ):
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


def _numbers_rows(values: np.ndarray) -> bool:
    """Whether integers count up from row to row, with few gaps. A short column may do so by chance."""
    steps = np.diff(values.astype(np.float64))
    return len(values) >= 20 and bool((steps > 0).all()) and steps.sum() <= 1.5 * len(values)


@dataclass(frozen=True, eq=False)
class Made:
    """Features of columns.

    Args:
        values: (N, d) float32. TF-IDF weights are reduced to `COMPONENTS` dimensions in them.
        sparse: all features with the TF-IDF weights as they are, a scipy CSR matrix; None without TF-IDF weights.
        notes: what was done, one sentence per kind of column.
        tabular: whether no column is a text.
    """

    values: np.ndarray
    sparse: Any
    notes: list[str]
    tabular: bool


def features_of(table: pd.DataFrame, names: Sequence[str], where: str, text_encoder: str = "") -> Made:
    """Features of some columns.

    Numbers are standardised; missing numbers become the median, with a feature that says so. Categories are one-hot.
    Texts are TF-IDF weights of words and pairs of words.

    Args:
        text_encoder: a text encoder of transformers instead of TF-IDF; see `tasks._own_texts`.

    Raises:
        RequestError: no column can be used.
    """
    kinds = [kind_of(name, table[name]) for name in names]
    by_kind = {kind: [c.name for c in kinds if c.kind == kind] for kind in ("number", "category", "text")}
    numbers = "standardised numbers; a missing number becomes the median, with a feature that says so"
    texts_as = f"text, seen by {text_encoder}" if text_encoder else "text, as TF-IDF weights of words and word pairs"
    told = {"number": numbers, "category": "one-hot categories", "text": texts_as}
    notes = [
        f"{len(chosen)} of the columns are {told[kind]}: {listed(chosen, 5)}."
        for kind, chosen in by_kind.items()
        if chosen
    ]
    notes += [f"The column {c.name} is left out, because it {c.reason}." for c in kinds if c.kind == "left out"]
    if not any(by_kind.values()):
        raise RequestError(f"{where} has no column to learn from. {' '.join(notes)}")
    blocks = []
    if by_kind["number"]:
        blocks.append(_numbers(table[by_kind["number"]]))
    if by_kind["category"]:
        blocks.append(_categories(table[by_kind["category"]]))
    texts = [table[name].astype(object).where(table[name].notna(), "").astype(str) for name in by_kind["text"]]
    if not texts:
        return Made(np.hstack(blocks), None, notes, True)
    if text_encoder:
        from tasks._own_texts import text_features

        encoded = [text_features(column.tolist(), text_encoder) for column in texts]
        return Made(np.hstack([*blocks, *encoded]), None, notes, False)
    from scipy.sparse import csr_matrix, hstack

    weights = [_tfidf(column) for column in texts]
    sparse = csr_matrix(hstack([*(csr_matrix(block) for block in blocks), *weights]))
    return Made(np.hstack([*blocks, *(_reduced(w) for w in weights)]), sparse, notes, False)


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


def _tfidf(texts: pd.Series[Any]) -> Any:
    """TF-IDF weights of words and pairs of words, a sparse matrix (N, terms)."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    least = 2 if len(texts) >= 200 else 1
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=least, max_features=MOST_TERMS, sublinear_tf=True, dtype=np.float32
    )
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # no word at all, such as a column of punctuation
        return csr_matrix((len(texts), 1), dtype=np.float32)


def _reduced(weights: Any) -> np.ndarray:
    """TF-IDF weights in at most `COMPONENTS` dimensions (latent semantic analysis), (N, d) float32."""
    from sklearn.decomposition import TruncatedSVD

    size = min(COMPONENTS, weights.shape[1] - 1, weights.shape[0] - 1)
    if size < 2:
        return np.asarray(weights.toarray(), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the explained variance of constant weights is 0/0
        return np.asarray(TruncatedSVD(size, random_state=0).fit_transform(weights), dtype=np.float32)
