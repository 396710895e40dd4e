"""From a user's data to training samples: class numbers, features, and what was done on the way."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.interfaces.split import Samples
from tasks._bars import bar
from tasks._class_labels import MISSING, as_texts, classes_of, numbered, with_columns
from tasks._own_content import Content, listed

if TYPE_CHECKING:
    import torch

READ_TOGETHER = 2048
"""Images that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """The rows that have a label.

    Args:
        rows: their row numbers, (n,).
        labels: class numbers, (n,) int64.
        classes: names of the classes, as in the data.
        notes: what was left out, one sentence each.
    """

    rows: np.ndarray
    labels: np.ndarray
    classes: list[str]
    notes: list[str]


def labelled(content: Content) -> Labelled:
    """The rows with a label, and the classes.

    Raises:
        RequestError: the values are no labels, or all of one class.
    """
    try:
        texts = label_texts(content.labels)
    except ValueError as error:
        raise RequestError(f"{content.where}: {content.label_column or 'labels'} {error}") from error
    classes, probs = classes_of([texts]), content.probs
    if probs is not None:
        named = with_columns(classes, probs.shape[1])
        if named is None:
            raise RequestError(
                f"{content.where}: probs has {probs.shape[1]} columns and there are {len(classes)} classes: "
                f"{listed(classes)}"
            )
        classes = named
    rows = np.flatnonzero(texts != "")
    notes = []
    if len(rows) < len(texts):
        missing = np.flatnonzero(texts == "")
        notes.append(f"{len(missing)} rows have no label and are left out: {listed([f'row {r}' for r in missing], 5)}.")
    if len(classes) < 2:
        told = f"all labels are of one class, {classes[0]}" if classes else "no row has a label"
        raise RequestError(f"{content.where}: {told}; give labels of two or more classes")
    if len(classes) > max(2, len(rows) // 2) and content.probs is None:
        raise RequestError(
            f"{content.where}: {content.label_column or 'labels'} has {len(classes)} different labels in {len(rows)} "
            "rows, so most classes have one sample; give a column of class labels"
        )
    return Labelled(rows, numbered(texts[rows], classes), classes, notes)


def label_texts(labels: Any) -> np.ndarray:
    """Labels as texts, (n,); a missing label is empty. Words such as ``None`` and the number −1 are labels.

    Raises:
        ValueError: the values are no labels.
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "OUT":
        return as_texts(values)
    written = [value.strip() if isinstance(value, str) else "" for value in values.tolist()]
    numbers = [text for text in written[:LOOKED_AT] if text and _is_fraction(text)]
    if len(numbers) > 0.5 * sum(text != "" for text in written[:LOOKED_AT]):
        raise ValueError(f"must be integers, booleans or text, not numbers such as {numbers[0]}")
    words = np.array([text in MISSING and text != "" for text in written])
    plain = np.where(words, "word", values.astype(object))
    texts = as_texts(plain).astype(object)
    texts[words] = np.array(written, dtype=object)[words]
    return texts.astype(str)


LOOKED_AT = 1000
"""Labels that are looked at to tell a column of measurements from a column of labels."""


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


@dataclass(frozen=True, eq=False)
class Prepared:
    """Features of the labelled rows.

    Args:
        values: (n, d) float32; None if the data has probabilities alone.
        sparse: the features of a table with texts, a scipy CSR matrix; None for all other data.
        probs: (n, c), given with the data.
        notes: how features were made, one sentence each.
        tabular: whether the features are of columns without texts.
    """

    values: torch.Tensor | None
    sparse: Any
    probs: np.ndarray | None
    notes: list[str]
    tabular: bool


def prepared(content: Content, rows: np.ndarray, encoder: str, pixels: int, text_encoder: str) -> Prepared:
    """Features of some rows of the data. Labels are not used."""
    import torch

    from harness.data.arrays import probabilities

    probs = None
    if content.probs is not None:
        probs = probabilities(f"{content.where}: probs", content.probs[rows]).numpy()
    if content.images is not None:
        features = image_features(content.where, [content.images[row] for row in rows], encoder, pixels)
        return Prepared(
            features, None, probs, [f"Features of the images are those of {encoder} at {pixels} pixels."], False
        )
    if content.values is not None:
        values = content.values[rows].astype(np.float64)
        deviation = values.std(0)
        scaled = (values - values.mean(0)) / np.where(deviation > 0, deviation, 1)
        return Prepared(
            torch.from_numpy(scaled.astype(np.float32)), None, probs, ["The features are standardised."], False
        )
    if not content.features:
        return Prepared(None, None, probs, ["The given probabilities are taken as out of sample."], False)
    from tasks._own_columns import features_of

    table = content.table.iloc[rows].reset_index(drop=True)
    made = features_of(table, content.features, content.where, text_encoder)
    values = torch.from_numpy(np.ascontiguousarray(made.values))
    return Prepared(values, made.sparse, probs, made.notes, made.tabular)


def image_features(where: str, images: Sequence[Any], name: str, pixels: int) -> torch.Tensor:
    """Features (n, d) by a frozen encoder, from the files of features or computed; a part of the images at a time."""
    import torch

    from tasks._feature_store import features_of
    from tasks._vision_encoders import check_encoder, vision_encoder

    check_encoder(name)
    encoder = vision_encoder(name, pixels)
    parts = []
    with bar(len(images), f"features of {where}, {name}, {pixels} pixels", "images") as shown:
        for start in range(0, len(images), READ_TOGETHER):
            pictures = np.stack([picture(image, pixels) for image in images[start : start + READ_TOGETHER]])
            parts.append(features_of(torch.from_numpy(pictures), name, encoder, progress=shown))
            shown.update(start + len(pictures) - shown.n)  # stored features are not counted on the way
    return torch.cat(parts)


def picture(image: Any, side: int) -> np.ndarray:
    """The middle square of an image, (3, side, side) uint8.

    Args:
        image: a file, the bytes of a file, or an array (h, w), (h, w, 1), (h, w, 3) or (3, h, w) uint8.
    """
    from PIL import Image

    from tasks._image_files import square

    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
            image = image.transpose(1, 2, 0)
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        image = encoded.getvalue()
    return square(io.BytesIO(image) if isinstance(image, bytes) else Path(image), side)


def content_keys(content: Content, rows: np.ndarray) -> list[bytes]:
    """What each row consists of, without label and without the columns that no model sees."""
    if content.images is not None:
        return [_image_key(content.images[row]) for row in rows]
    given = content.values if content.values is not None else content.probs
    if given is not None:
        return [np.ascontiguousarray(values).tobytes() for values in given[rows]]
    import pandas as pd

    table = content.table.iloc[rows][list(content.features)].astype(str)
    return [key.tobytes() for key in pd.util.hash_pandas_object(table, index=False).to_numpy()]


def _image_key(image: Any) -> bytes:
    if isinstance(image, np.ndarray):
        return image.tobytes()
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class OwnSamples(Samples):
    """Samples of a user's data.

    Args:
        groups: the group of each sample for cross-validation, (n,).
        probs: out-of-sample probabilities that came with the data, (n, c).
    """

    groups: np.ndarray | None = field(default=None, kw_only=True)
    probs: np.ndarray | None = field(default=None, kw_only=True)

    def to(self, device: str) -> OwnSamples:
        inputs = None if self.inputs is None else self.inputs.to(device)
        return replace(self, inputs=inputs, labels=self.labels.to(device))

    def taken(self, rows: np.ndarray) -> OwnSamples:
        """The samples at some positions."""
        import torch

        from tasks._classifiers import taken

        return replace(
            self,
            inputs=None if self.inputs is None else taken(self.inputs, rows),
            labels=self.labels[torch.from_numpy(rows)],
            groups=None if self.groups is None else self.groups[rows],
            probs=None if self.probs is None else self.probs[rows],
        )


@functools.lru_cache(maxsize=2)
def labelled_once(content: Content) -> Labelled:
    """`labelled` of a content, kept for the next call."""
    return labelled(content)


@functools.lru_cache(maxsize=2)
def prepared_once(content: Content, encoder: str, pixels: int, text_encoder: str) -> Prepared:
    """`prepared` of a content's labelled rows, kept for the next call."""
    return prepared(content, labelled_once(content).rows, encoder, pixels, text_encoder)
