"""Find label errors in a user's own data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.finding.comparing import Compared, Contest, Judged
from harness.finding.duplicates import duplicates
from harness.finding.found import Found
from harness.finding.scoring import fold_seed, highest, scored, view_on
from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.interfaces.own_data import OwnData
from harness.interfaces.split import Split
from harness.interfaces.view import View
from harness.selection.registry import TASKS

if TYPE_CHECKING:
    import pandas as pd

WORTH_TELLING = 5.0
"""Seconds of the first model from which on `find` says how long it took."""

FEWEST = 3
"""Folds in which a class must have samples before its labels are judged."""


def task_of(data: Any, labels: Any, ignore: Sequence[str] = (), groups: str | None = None, **params: Any) -> OwnData:
    """The task on a user's data.

    Raises:
        RequestError: the data cannot be read as asked, or no task reads such data.
    """
    for cls in TASKS.classes().values():
        if issubclass(cls, OwnData):
            return cls.opened(data, labels, ignore, groups, **params)
    raise RequestError("no task that reads a user's own data is registered")


def find(
    what: str,
    task: OwnData,
    method: tuple[str, Method],
    counter: tuple[str, Method],
    contest: Contest | None = None,
    say: Callable[[str], None] = lambda _: None,
    clean: Path | None = None,
) -> Found:
    """Rank the samples by how suspicious their labels are, and estimate how many labels are wrong.

    Args:
        what: the data, as the user names it.
        method: ranks the samples, and flags the probably wrong ones if it has a rule of its own; with its spec.
        counter: flags with an estimate of the number of wrong labels; with its spec.
        contest: compares detectors on planted errors. The best one then ranks the samples instead of ``method``, and as
            many of its highest scores are flagged as labels are estimated to be wrong.
        say: receives what is being done.
        clean: where the data will be written again; checked before models are trained.

    Raises:
        RequestError: the data cannot be read, or the method cannot score the data.
    """
    import pandas as pd

    seconds: dict[str, float] = {}
    with _stage("reading the data and making features", seconds, say):
        task.check()
        if clean is not None:
            task.check_write(clean)
        split, _ = task.load(0)
    names = np.array(task.class_names() or range(split.n_classes), dtype=object)
    with _stage(f"cross-validation of {len(split.train)} samples, {split.n_classes} classes", seconds, say):
        start = time.perf_counter()
        view = view_on(task, split, 0)
        first = time.perf_counter() - start
        if first > WORTH_TELLING:
            say(f"the first model took {first:.0f} s; cross-validation trains several more, each on a part of the data")
        _, count = _by(counter, view)
        if count is None:
            raise RequestError(f"{counter[0]} estimates no number of wrong labels; give a method that flags")
        probs = view.out_of_sample_probs if count.probs is None else count.probs
    labels, judged = view.labels, _judged(task, split)
    compared: Compared | None = None
    if contest is not None:
        with _stage("comparison of detectors on planted errors", seconds, say):
            known = Judged(split, probs, count.flagged & judged, count.estimated_errors)
            compared = contest.held(task, known)
            method = compared.best, contest.methods[compared.best]
    with _stage(f"scores of {method[0]}", seconds, say):
        scores, flags = _by(method, view)
    if flags is None or (compared is not None and method[0] != counter[0]):
        flagged = highest(scores, judged, round(count.estimated_errors))  # what the comparison's expectation is about
    else:
        flagged = flags.flagged & judged
    suggested, probability = suggestions(probs, labels)
    order = np.lexsort((-np.where(np.isnan(scores) | ~judged, -np.inf, scores), ~flagged))
    columns = task.columns().iloc[order]
    given = names[labels]
    ranked = pd.DataFrame(
        {
            "given": given[order],
            "suggested": names[suggested][order],
            "probability": probability[order],
            "score": scores[order],
            "probably_wrong": flagged[order],
        },
        index=columns.index,
    )
    with _stage("search for duplicates", seconds, say):
        twice = duplicates(view.fresh(view.seed), task.contents(), task.columns().index.to_numpy(), given)
    low, high = count.bounds or (count.estimated_errors, count.estimated_errors)
    return Found(
        what=what,
        task=task,
        classes=[str(name) for name in names],
        counts=np.bincount(labels, minlength=split.n_classes).tolist(),
        ranked=ranked,
        columns=columns,
        positions=order,
        estimated=count.estimated_errors,
        low=low,
        high=high,
        method=method[0],
        counter=counter[0],
        agreement=float((probs.argmax(1) == labels).mean()),
        notes=[*task.notes(), *_unjudged(given, judged)],
        pairs=pairs_of(given, names[suggested], flagged),
        duplicates=twice,
        compared=compared,
        seconds=seconds,
    )


def suggestions(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class other than the given one, and its probability, (n,) each."""
    rows = np.arange(len(labels))
    others = probs.copy()
    others[rows, labels] = -np.inf
    best = others.argmax(1)
    return best, probs[rows, best]


def pairs_of(given: np.ndarray, suggested: np.ndarray, flagged: np.ndarray) -> pd.DataFrame:
    """How many probably wrong labels each pair of given and suggested class has, most first.

    Args:
        given, suggested: names of classes, (n,).
        flagged: (n,) bool.
    """
    import pandas as pd

    frame = pd.DataFrame({"given": given[flagged], "suggested": suggested[flagged]})
    pairs = frame.value_counts(sort=True).rename("probably_wrong").reset_index()
    pairs["share_of_given"] = pairs["probably_wrong"] / pairs["given"].map(pd.Series(given).value_counts()).astype(
        float
    )
    order = ["probably_wrong", "given", "suggested"]
    return pairs.sort_values(order, ascending=[False, True, True], kind="stable").reset_index(drop=True)


def _by(method: tuple[str, Method], view: View) -> tuple[np.ndarray, Flags | None]:
    try:
        return scored(method[1], view)
    except Unsupported as error:
        raise RequestError(f"{method[0]} cannot score this data: {error}") from error


def _judged(task: OwnData, split: Split) -> np.ndarray:
    """Samples of a class that the models of other folds could learn, (n,) bool.

    A class whose samples all are in one fold is unknown to the model that judges them.
    """
    labels = split.train.labels.cpu().numpy()
    if task.out_of_sample(split) is not None:
        return np.ones(len(labels), dtype=bool)
    fold = task.assign_folds(split, fold_seed(task, 0))
    known = np.zeros((split.n_classes, int(fold.max()) + 1), dtype=bool)
    known[labels, fold] = True
    return np.asarray((known.sum(1) >= min(FEWEST, known.shape[1]))[labels])


def _unjudged(given: np.ndarray, judged: np.ndarray) -> Iterator[str]:
    rare = sorted(set(given[~judged].tolist()))
    if rare:
        shown = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        yield (
            f"Not judged are {int((~judged).sum())} samples, because their classes have samples in fewer than {FEWEST} "
            f"folds: {shown}."
        )


@contextmanager
def _stage(what: str, seconds: dict[str, float], say: Callable[[str], None]) -> Iterator[None]:
    say(what)
    start = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - start
