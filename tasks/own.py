"""A task on a user's own data: a table, a folder of images, a dataset, arrays, or an object in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.interfaces.own_data import Cleaning, OwnData
from harness.interfaces.params import at_least, build
from harness.interfaces.split import Samples, Split
from harness.selection.registry import register_task
from tasks._own_content import Content
from tasks._own_reading import MEMORY, hold, read, version_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from harness.interfaces.dynamics import Recorder
    from harness.interfaces.outputs import Outputs
    from tasks._own_samples import Labelled, Prepared


@register_task
@dataclass(frozen=True)
class Own(OwnData):
    """Your own data: ``own[path=reviews.csv,labels=sentiment]``. `python -m harness find` is the short way to use it.

    The data is a CSV, TSV, Parquet or JSON lines file; a folder with one sub-folder of images per class, or with images
    and one table of labels; a Hugging Face dataset (a name on the hub, or a folder that ``save_to_disk`` wrote); or
    arrays (``.npz`` with ``labels`` and ``features``, ``images`` or ``probs``). Rows without a label are left out.

    Features come from the columns: standardised numbers, one-hot categories, TF-IDF weights of texts. Features of
    images come from a frozen encoder. The model on the features is a softmax regression or gradient-boosted trees. With
    TF-IDF weights, methods see the model's probabilities and no gradients. Given probabilities are taken as out of
    sample.

    Args:
        path: the file, the folder, or the name of a dataset.
        labels: the column of labels; empty where the data says which labels its samples have.
        ignore: columns that no model sees, separated by semicolons, or as a JSON list.
        groups: a column; samples with the same value are in one fold of the cross-validation.
        model: ``linear`` is softmax regression, and ``boosting`` gradient-boosted trees. ``auto`` takes trees for a
            table without texts if they predict a held-out tenth of the labels better, and otherwise ``linear``.
        folds: of the stratified cross-validation that gives out-of-sample probabilities.
        encoder, pixels: the frozen encoder of images, as for the task ``cifar10n``.
        text_encoder: for columns of text instead of TF-IDF: ``all_minilm_l6_v2``, or a name or folder of transformers.
    """

    name: ClassVar[str] = "own"
    title: ClassVar[str] = "Own data"
    source: ClassVar[str] = "the user's data"
    needs: ClassVar[str] = "own[path=DATA,labels=COLUMN]"
    named_only: ClassVar[bool] = True
    most_retrainings: ClassVar[int] = 100
    same_samples: ClassVar[bool] = True

    path: str = ""
    labels: str = ""
    ignore: str = ""
    groups: str = ""
    model: Literal["auto", "linear", "boosting"] = "auto"
    folds: int = 5
    encoder: str = "efficientnet_lite0"
    pixels: int = 128
    text_encoder: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, folds=2, pixels=16)

    @classmethod
    def opened(cls, data: Any, labels: Any, ignore: Sequence[str], groups: str | None, **params: Any) -> Self:
        if isinstance(labels, int | np.integer) and not isinstance(labels, bool):
            labels = str(labels)  # a column that is called by a number
        named = labels is None or isinstance(labels, str)
        path = str(data) if isinstance(data, str | Path) else hold(data, None if named else labels)
        listed = json.dumps(list(ignore)) if any(";" in name for name in ignore) else ";".join(ignore)
        values = {"path": path, "ignore": listed, "groups": groups or "", **params}
        return build(cls, {**values, "labels": labels if named and labels is not None else ""})

    def check(self) -> None:
        from tasks._own_folds import check_folds

        labelled, groups = self._labelled(), self._content().groups
        if self._content().probs is None:
            check_folds(labelled.labels, None if groups is None else groups[labelled.rows], self.folds)

    def data_version(self) -> str:
        return self.path if self.path.startswith(MEMORY) else version_of(self._path())

    def load(self, seed: int) -> tuple[Split, np.ndarray | None]:
        import torch

        from tasks._classifiers import SparseFeatures
        from tasks._own_samples import OwnSamples
        from tasks._probe import Features

        labelled, prepared = self._prepared()
        none = torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
        values = prepared.values
        inputs: Features | None = None
        if values is not None and prepared.sparse is not None:
            inputs = SparseFeatures(values, none, sparse=prepared.sparse)
        elif values is not None:
            inputs = Features(values, none)
        groups, labels = self._content().groups, torch.from_numpy(labelled.labels)
        train = OwnSamples(
            inputs, labels, groups=None if groups is None else groups[labelled.rows], probs=prepared.probs
        )
        return Split(train, train.taken(np.arange(0)), {}, len(labelled.classes)), None

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        if split.train.inputs is None:
            if keep is not None:
                raise Unsupported("retraining needs features or images; the data has probabilities alone")
            return None
        return self._trainer(split).train(split, keep, seed)

    def train_all(self, wanted: Sequence[tuple[Split, Sequence[np.ndarray | None], int]]) -> Iterator[list[Any]]:
        if wanted[0][0].train.inputs is None:
            return super().train_all(wanted)
        models: Iterator[list[Any]] = self._trainer(wanted[0][0]).train_all(wanted)
        return models

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> Any:
        from tasks._probe import Probe

        trainer = None if split.train.inputs is None else self._trainer(split)
        if not isinstance(trainer, Probe):
            raise Unsupported("training dynamics need model=linear and features")
        return trainer.train(split, None, seed, recorder)

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        import torch

        from harness.interfaces.outputs import Outputs

        if model is None:
            probs = getattr(samples, "probs", None)
            return Outputs(samples.labels, None if probs is None else torch.from_numpy(probs))
        outputs: Outputs = model.outputs(samples)
        return outputs

    def module(self, model: Any, split: Split) -> Callable[..., Any]:
        if model is None:
            raise Unsupported("the data gives probabilities and no model")
        module: Callable[..., Any] = model.module()
        return module

    def module_inputs(self, samples: Samples) -> Any:
        return None if samples.inputs is None else samples.inputs.values

    def encoder_features(self, samples: Samples) -> torch.Tensor:
        seen = self._content().images is not None or self.text_encoder or self._prepared()[1].sparse is not None
        if samples.inputs is None or not seen:
            raise Unsupported("the samples are no images and no texts, so no encoder saw them")
        features: torch.Tensor = samples.inputs.values
        return features

    def assign_folds(self, split: Split, seed: int) -> np.ndarray:
        """Stratified folds. With groups, all samples of a group are in one fold."""
        from tasks._own_folds import folds_of

        return folds_of(split.train.labels.cpu().numpy(), getattr(split.train, "groups", None), self.folds, seed)

    def out_of_sample(self, split: Split) -> np.ndarray | None:
        return getattr(split.train, "probs", None)

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        return {}

    def class_names(self) -> list[str]:
        return self._labelled().classes

    def sample_names(self, seed: int) -> list[str]:
        content, rows = self._content(), self._labelled().rows
        if content.images is not None and content.label_column is None and len(content.table.columns):
            return [str(name) for name in content.table.iloc[rows, 0]]
        return [f"row {row}" for row in rows]

    def pictures(self, split: Split, indices: np.ndarray) -> np.ndarray:
        from tasks._own_samples import picture

        content, rows = self._content(), self._labelled().rows
        if content.images is None:
            return super().pictures(split, indices)
        return np.stack([picture(content.images[rows[k]], self.pixels).transpose(1, 2, 0) for k in indices])

    # What `find` needs beside a task.

    def columns(self) -> pd.DataFrame:
        return self._content().table.iloc[self._labelled().rows]

    def notes(self) -> list[str]:
        labelled, prepared = self._prepared()
        return [*self._content().notes, *labelled.notes, *prepared.notes]

    def part(self, split: Split, rows: np.ndarray) -> Split:
        return replace(split, train=split.train.taken(rows))  # type: ignore[attr-defined]  # `load` gives OwnSamples

    def contents(self) -> list[bytes]:
        from tasks._own_samples import content_keys

        return content_keys(self._content(), self._labelled().rows)

    def check_write(self, path: Path) -> None:
        from tasks._own_writing import check

        check(self._content(), path)

    def write(self, path: Path, how: Cleaning, suspects: np.ndarray, suggested: Sequence[str]) -> str:
        from tasks._own_writing import write

        labelled = self._labelled()
        chosen = {int(labelled.rows[k]): suggested[k] for k in np.flatnonzero(suspects).tolist()}
        return write(self._content(), labelled, path, how, chosen)

    def _path(self) -> str:
        if not self.path:
            raise RequestError(f"the task own needs data; write {self.needs}")
        return self.path

    def _content(self) -> Content:
        ignore = json.loads(self.ignore) if self.ignore.startswith("[") else self.ignore.split(";")
        ignore = [name.strip() for name in ignore if name.strip()]
        return read(self._path(), self.labels or None, ignore, self.groups or None)

    def _labelled(self) -> Labelled:
        from tasks._own_samples import labelled_once

        return labelled_once(self._content())

    def _prepared(self) -> tuple[Labelled, Prepared]:
        from tasks._own_samples import prepared_once

        return self._labelled(), prepared_once(self._content(), self.encoder, self.pixels, self.text_encoder)

    def _trainer(self, split: Split) -> Any:
        from tasks._classifiers import Boosting, SparseFeatures, SparseRegression
        from tasks._own_models import chosen
        from tasks._probe import Probe

        if isinstance(split.train.inputs, SparseFeatures):
            if self.model == "boosting":
                raise RequestError("model=boosting needs columns without texts, or text_encoder=; give model=linear")
            return SparseRegression()
        boosted = self.model == "boosting" or (
            self.model == "auto" and self._prepared()[1].tabular and chosen(split) == "boosting"
        )
        return Boosting() if boosted else Probe(None, 1e-4, None)
