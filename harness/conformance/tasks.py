"""The conformance checks of tasks. A task is checked with its given parameters; the preset ``smoke`` is fast."""

from __future__ import annotations

import gc
import json
import pickle
from dataclasses import replace
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch

from harness.conformance.check import Check, CheckFailure
from harness.data.arrays import PROBABILITY_TOLERANCE
from harness.errors import Unsupported
from harness.interfaces.outputs import Outputs
from harness.interfaces.params import build, values_of
from harness.interfaces.task import Samples, Split, Task
from harness.interfaces.view import View
from harness.randomness import global_seed, left_as_found

SEED = 3
MOST_COLUMNS = 4096
"""Columns of an array that are compared with the truth."""


def _load(task: Any) -> tuple[Split, np.ndarray | None]:
    loaded = task.load(SEED)
    if not isinstance(loaded, tuple) or len(loaded) != 2 or not isinstance(loaded[0], Split):
        raise CheckFailure(f"load returned {type(loaded).__name__}", "return (Split, true labels or None)")
    return loaded


def _sets(split: Split) -> dict[str, Samples]:
    return {"train": split.train, "test": split.test, **split.references}


def _parameters(task: Task) -> None:
    cls, values = type(task), values_of(task)
    if build(cls, json.loads(json.dumps(values))) != task:
        raise CheckFailure("parameters differ after a round trip by JSON", "use int, float, str, bool or None")
    if build(cls, {key: "none" if value is None else str(value) for key, value in values.items()}) != task:
        raise CheckFailure("parameters differ after a round trip by text", "annotate every field with its type")
    if pickle.loads(pickle.dumps(task)) != task:  # noqa: S301 - what was pickled a line above
        raise CheckFailure("the task differs after pickling and unpickling", "keep all state in its parameters")
    for preset in cls.presets.values():
        build(cls, dict(preset))


def _labels(task: Task) -> None:
    split, truth = _load(task)
    for name, samples in _sets(split).items():
        labels = samples.labels
        if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
            raise CheckFailure(f"the labels of {name} are not an int64 tensor (n,)", "torch.as_tensor(labels).long()")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < split.n_classes:
            raise CheckFailure(
                f"labels of {name} lie in {int(labels.min())} … {int(labels.max())}, with {split.n_classes} classes",
                "number the classes 0 … n_classes − 1",
            )
        if hasattr(samples.inputs, "__len__") and len(samples.inputs) != len(labels):
            raise CheckFailure(
                f"{name} has {len(samples.inputs)} inputs and {len(labels)} labels", "give one label per input"
            )
    names = task.sample_names(SEED)
    if names is not None and len(names) != len(split.train):
        raise CheckFailure(
            f"sample_names has {len(names)} names for {len(split.train)} training samples",
            "return one name per sample, in the order of load, or None",
        )
    if truth is not None and np.shape(truth) != (len(split.train),):
        raise CheckFailure(
            f"the true labels have the shape {np.shape(truth)}, the training labels ({len(split.train)},)",
            "return one true label per training sample",
        )


def _same_data(task: Task) -> None:
    loads = []
    for k in range(2):
        with global_seed(k):
            split, truth = _load(task)
        loads.append([*_arrays(split), np.asarray([] if truth is None else truth)])
    if not all(np.array_equal(ours, theirs) for ours, theirs in zip(*loads, strict=True)):
        raise CheckFailure("two loads of one seed give different data", "draw from np.random.default_rng(seed)")


def _arrays(split: Split) -> list[np.ndarray]:
    sets = _sets(split).values()
    inputs = [samples.inputs for samples in sets if isinstance(samples.inputs, torch.Tensor | np.ndarray)]
    return [np.asarray(values) for values in [*inputs, *(samples.labels for samples in sets)]]


def _truth(task: Task) -> None:
    split, truth = _load(task)
    given = split.train.labels.numpy()
    if truth is None or np.array_equal(truth, given):
        raise Unsupported("there are no wrong labels to hide")
    innocent = {  # labels of other samples may equal the true labels by design
        id(samples.labels)
        for name, samples in _sets(split).items()
        if name != "train" and not _same(samples.inputs, split.train.inputs)
    }
    seen: set[int] = set(innocent)
    model = task.train(split, None, SEED)
    features = task.training_outputs(model, split.train).features
    todo: list[Any] = [split, task.view(model, split), features]  # no probabilities: they may equal the truth
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or type(thing).__name__ in ("module", "frame"):
            continue
        seen.add(id(thing))
        if isinstance(thing, FunctionType):
            cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != CellType()]
            todo += [*cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
            continue
        if _shows(thing, np.asarray(truth), given):
            raise CheckFailure(
                "methods can reach the true labels, or which labels are wrong, from the Split or the view",
                "leave them out of the Split and the view",
            )
        todo.extend(gc.get_referents(thing))


def _same(ours: Any, theirs: Any) -> bool:
    if not isinstance(ours, torch.Tensor | np.ndarray) or np.shape(ours) != np.shape(theirs):
        return ours is theirs
    return np.array_equal(np.asarray(ours), np.asarray(theirs))


def _shows(thing: Any, truth: np.ndarray, given: np.ndarray) -> bool:
    """Whether an array or list, or a column of it, equals the true labels or the mask of wrong labels."""
    n = len(truth)
    if isinstance(thing, list | tuple):
        if len(thing) != n or not all(isinstance(entry, int | np.integer) for entry in thing):
            return False
    elif not isinstance(thing, torch.Tensor | np.ndarray) or len(thing.shape) == 0 or thing.shape[0] != n:
        return False
    values = np.asarray(thing)
    if values.dtype.kind not in "biuf":
        return False
    columns = values.reshape(n, -1).T[:MOST_COLUMNS]
    return any(np.array_equal(column, secret) for column in columns for secret in (truth, truth != given))


def _view(task: Task) -> None:
    split, _ = _load(task)
    view = task.view(task.train(split, None, SEED), split)
    outputs = view.outputs()
    if not isinstance(outputs, Outputs):
        raise CheckFailure(
            f"outputs returned {type(outputs).__name__}", "return harness.Outputs(samples.labels, probs, features)"
        )
    if not np.array_equal(outputs.labels.cpu().numpy(), split.train.labels.numpy()):
        raise CheckFailure("the labels of the training outputs are not the training labels", "pass samples.labels")
    if task.attributes:
        _classes(split, view)
        return
    probs = view.probs
    if probs.shape != (view.n, split.n_classes) or not np.allclose(probs.sum(1), 1, atol=PROBABILITY_TOLERANCE):
        raise CheckFailure(
            f"view.probs has the shape {probs.shape}, or rows that do not sum to 1",
            f"class probabilities ({view.n}, {split.n_classes})",
        )


def _classes(split: Split, view: View) -> None:
    if (
        "test" not in split.references
        or split.train.classes is None
        or split.references["test"].classes is None
        or not np.array_equal(view.classes, split.train.classes)
    ):
        raise CheckFailure(
            "an attribution task's samples have no classes, or the view has different ones, or no reference set is "
            "called 'test'",
            'Samples(classes=…) and references={"test": …}',
        )


def _shown(view: View) -> np.ndarray:
    """Numbers that differ between the views of two models, (n, …): probabilities, or gradients without probabilities.

    The gradients also depend on the samples' labels.
    """
    try:
        return view.probs
    except Unsupported:
        return view.gradients_of("last").rows(slice(None)).cpu().numpy()


def _same_model(task: Task) -> None:
    split, _ = _load(task)
    seen = []
    for k in range(2):
        with global_seed(k):
            model = task.train(split, None, SEED)
        seen.append((_shown(task.view(model, split)), task.evaluate(model, split)))
    if not np.array_equal(seen[0][0], seen[1][0]) or seen[0][1] != seen[1][1]:
        raise CheckFailure(
            "two trainings with the same seed give different models",
            "seed the initial weights, the sample order and the augmentation by the argument seed of train",
        )


def _keep(task: Task) -> None:
    split, _ = _load(task)
    keep = np.random.default_rng(SEED).random(len(split.train)) < 0.8
    changed = split.train.labels.clone()
    changed[torch.from_numpy(~keep)] = (changed[torch.from_numpy(~keep)] + 1) % split.n_classes
    other = replace(split, train=replace(split.train, labels=changed))
    ours, theirs = (_shown(task.view(task.train(data, keep, SEED), data))[keep] for data in (split, other))
    if not np.array_equal(ours, theirs):
        raise CheckFailure(
            "a retrained model depends on the labels of samples that keep leaves out", "train on kept samples only"
        )
    with_all = _shown(task.view(task.train(other, np.ones(len(keep), dtype=bool), SEED), other))[keep]
    if np.array_equal(with_all, theirs):
        raise CheckFailure("leaving out a fifth of the samples leaves the model unchanged", "train on kept samples")


def _evaluate(task: Task) -> None:
    split, _ = _load(task)
    metrics = task.evaluate(task.train(split, None, SEED), split)
    if not metrics:
        raise Unsupported("the task's evaluate returns no metrics")
    shares = [value for name, value in metrics.items() if name.startswith("accuracy")]
    if "accuracy" not in metrics or not all(0 <= value <= 1 for value in shares):
        raise CheckFailure(f"evaluate gives {metrics}", "return fractions in [0, 1], including 'accuracy'")


def _global_state(task: Task) -> None:
    with left_as_found() as moved:
        split, _ = _load(task)
        task.evaluate(task.train(split, None, SEED), split)
    if moved:
        raise CheckFailure(
            f"the task changes the global random state of {' and '.join(moved)}",
            "use your own generators; for initial weights use torch.random.fork_rng()",
        )


TASK_CHECKS = (
    Check("parameters", "parameters identify stored results and are sent between processes", _parameters),
    Check("labels", "with invalid labels, another problem is trained", _labels),
    Check("same_data", "all methods of a seed must face the same data", _same_data),
    Check("truth", "a method that sees which labels are wrong detects nothing", _truth),
    Check("view", "methods read labels and probabilities from the view", _view),
    Check("same_model", "a result that cannot be repeated cannot be compared", _same_model),
    Check("keep", "after trimming, removed samples must not influence the model", _keep),
    Check("evaluate", "the accuracy after trimming is the aim of a run", _evaluate),
    Check("global_state", "methods and tasks that run later must not depend on this task", _global_state),
)
"""Every check of a task, in the order they run."""
