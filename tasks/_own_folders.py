"""Reading a user's folder: images in one sub-folder per class, images with a table of labels, or a saved dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from tasks._image_files import SUFFIXES, images_in, is_class_folder
from tasks._own_content import TABLES, Content, listed, of_table, read_table

if TYPE_CHECKING:
    import pandas as pd


def read_folder(path: Path, labels: str | None, ignore: Sequence[str], groups: str | None) -> Content:
    """The content of a folder.

    Raises:
        RequestError: the folder holds none of the known forms.
    """
    if is_saved_dataset(path):
        return of_dataset(str(path), saved_dataset(path), labels, ignore, groups)
    tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() in TABLES and file.is_file()]
    here = images_in(path)
    classes = [folder for folder in sorted(path.iterdir()) if is_class_folder(folder)]
    if len(tables) == 1 and (here or labels is not None):
        content = of_table(str(tables[0]), read_table(tables[0], labels), labels, ignore, groups, path)
        if content.images is None:
            raise RequestError(f"{tables[0]} has no column that names image files; call the column file_name")
        return content
    if len(tables) > 1 and here:
        raise RequestError(
            f"{path} holds several tables ({listed([t.name for t in tables])}); give one of them as DATA"
        )
    files = [(folder.name, image) for folder in classes for image in images_in(folder)]
    if not files:
        raise RequestError(
            f"{path} holds no images ({', '.join(SUFFIXES)}) in sub-folders, one per class; no images with a table of "
            "labels; and no dataset that save_to_disk wrote"
        )
    if labels is not None:
        raise RequestError(f"--labels {labels} does not fit {path}: its sub-folders are the labels; leave --labels out")
    import pandas as pd

    table = pd.DataFrame({"file": [str(image.relative_to(path)) for _, image in files]})
    notes = [f"The samples are the images of {len({name for name, _ in files})} sub-folders, which are the labels."]
    others = sum(
        1
        for folder in classes
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".") and not file.name.lower().endswith(SUFFIXES)
    )
    if others:
        notes.append(f"{others} files are neither {' nor '.join(SUFFIXES)} and are left out.")
    if groups or ignore:
        raise RequestError(f"{path} has no columns, so --groups and --ignore do not fit; give a table of the files")
    if here:
        notes.append(f"{len(here)} images outside the sub-folders have no label and are left out.")
    return Content(
        str(path),
        table,
        np.array([name for name, _ in files]),
        images=[image for _, image in files],
        notes=notes,
    )


def is_saved_dataset(path: Path) -> bool:
    """Whether ``datasets.Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote the folder."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def saved_dataset(path: Path) -> Any:
    """The dataset that ``save_to_disk`` wrote; of several splits the one called train.

    Raises:
        RequestError: the extra nlp is not installed, or the folder is damaged.
    """
    datasets = _datasets(str(path))
    try:
        return _one_split(datasets.load_from_disk(str(path)), str(path))
    except RequestError:
        raise
    except Exception as error:  # a damaged folder can raise anything
        raise RequestError(f"{path} cannot be read as a saved dataset: {_first_line(error)}") from error


def hub_dataset(name: str) -> Any:
    """The dataset of a name on the Hugging Face hub, ``stanfordnlp/sst2`` or ``glue:sst2`` with a configuration.

    Raises:
        RequestError: there is no such dataset, or the hub cannot be reached.
    """
    datasets = _datasets(name)
    repository, _, configuration = name.partition(":")
    try:
        return _one_split(datasets.load_dataset(repository, configuration or None), name)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            f"{name} is neither a file or folder here nor a dataset that the hub gives: {_first_line(error)}"
        ) from error


def of_dataset(where: str, dataset: Any, labels: str | None, ignore: Sequence[str], groups: str | None) -> Content:
    """The content of a ``datasets.Dataset``. Class numbers become class names, and images stay encoded."""
    import datasets

    if labels is None:
        known = [n for n, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)]
        if len(known) == 1:
            labels = known[0]
    pictures = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
    for name in pictures:
        dataset = dataset.cast_column(name, datasets.Image(decode=False))
    plain = dataset.remove_columns(pictures).with_format(None)
    table: pd.DataFrame = plain.to_pandas()
    for name, feature in plain.features.items():
        if isinstance(feature, datasets.ClassLabel):
            names = np.array([*feature.names, None], dtype=object)
            numbers = table[name].fillna(-1).to_numpy(dtype=np.int64)
            table[name] = names[numbers]  # -1, no label, is the last entry
    images = None
    if pictures:
        cells = dataset.with_format(None)[pictures[0]]
        images = pictures[0], [cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]) for cell in cells]
    return of_table(where, table, labels, ignore, groups, images=images)


def _one_split(dataset: Any, where: str) -> Any:
    if hasattr(dataset, "column_names") and isinstance(dataset.column_names, list):
        return dataset
    splits = list(dataset)
    if "train" in splits or len(splits) == 1:
        return dataset["train" if "train" in splits else splits[0]]
    raise RequestError(f"{where} has the splits {listed(splits)} and none called train; save the one to look through")


def _datasets(where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise RequestError(f"{where} needs the package datasets; install the extra nlp") from error
    return datasets


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
