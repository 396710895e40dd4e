"""``report``: the whole comparison, one of the paper's tables or figures, or the tidy table, from a results folder."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError
from harness.labels import relabelled
from harness.params import build
from harness.registry import TASKS, load_plugin
from harness.requests import remembered
from harness.results import load_results
from harness.seeds import derive
from harness.staleness import stale_keys, unknown_names
from harness.store import Record, Store, write_whole
from harness.task_base import Task

if TYPE_CHECKING:
    import pandas as pd

    from reports.figures import Flagged

FIGURES = ("2", "5")
SHOWN = 10


def run(
    out: str,
    form: str = "md",
    table: str | None = None,
    figure: str | None = None,
    output: str | None = None,
    plugins: Sequence[str] = (),
) -> None:
    """Write a report to a file or standard output; figures always to a file.

    Args:
        out: a results folder.
        form: ``md`` or ``csv``.
        table, figure: a number of the paper's, for that alone.
        output: the file; a figure's suffix decides its format, and ``figureN.png`` is its default.
        plugins: to tell stale results.

    Raises:
        RequestError: nothing to report, no such table or figure, or a file that cannot be written.
    """
    if form == "csv" and (table or figure):
        raise RequestError("--format csv is the whole tidy table; leave out --table and --figure")
    for plugin in plugins:
        load_plugin(plugin)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load_results(out)
    frame = relabelled(frame)
    problems = [str(warning.message) for warning in caught]
    if frame.empty and not problems:
        raise RequestError(f"{out} holds no results yet; `run --out {out}` fills it")
    if form == "csv" or table or figure:
        for problem in problems:
            print(problem, file=sys.stderr)
    if figure is not None:
        path = output or f"figure{figure}.png"
        _write(_figure(figure, frame, out, path), path)
        print(path)
        return
    text = _text(frame, form, table, out, problems)
    unknown = unknown_names(frame)
    if unknown:
        print(f"not known here, so perhaps stale: {', '.join(unknown)}; --plugin FILE tells", file=sys.stderr)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(text.encode(), output)


def _text(frame: pd.DataFrame, form: str, table: str | None, out: str, problems: Sequence[str]) -> str:
    from reports.markdown import report
    from reports.paper_tables import paper_table

    if form == "csv":
        return frame.to_csv(index=False)
    if table is not None:
        return paper_table(frame, table, stale_keys(frame))
    commands = [request.command for request in remembered(Store(out)) if request.command]
    return report(frame, commands=commands, stale=stale_keys(frame), problems=problems)


def _figure(number: str, frame: pd.DataFrame, out: str, path: str) -> bytes:
    from reports.figures import budget_figure, flagged_grid

    if number not in FIGURES:
        raise RequestError(f"there is no Figure {number} here; there is: {', '.join(FIGURES)}")
    figure = flagged_grid(_flagged(out)) if number == "2" else budget_figure(frame, stale_keys(frame))
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format=Path(path).suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise RequestError(f"--output {path} has no suffix of a picture: {error}") from error
    return buffer.getvalue()


def _flagged(out: str) -> list[Flagged]:
    """Rows of Figure 2: of each image task in the store, one seed's most suspicious samples.

    Images come from the data folder, through the task; they are not stored with results.
    """
    from reports.figures import FLAGGED_BY, most_like_published

    found: dict[tuple[str, str], list[tuple[Record, dict[str, np.ndarray], Any]]] = {}
    for record, arrays in Store(out).records():
        if record.method == FLAGGED_BY and record.status == "ok" and arrays["flagged"].any():
            task = _task_with_pictures(record)
            if task is not None:
                where = (record.task_title, str(record.task_params.get("noise", "")))
                found.setdefault(where, []).append((record, arrays, task))
    if not found:
        raise RequestError(
            f"{out} has no flags of {FLAGGED_BY} on images; `run --methods {FLAGGED_BY}` on one brings some"
        )
    rows = []
    for (title, noise), candidates in sorted(found.items(), key=lambda entry: (len(entry[0][0]), entry[0])):
        best = most_like_published([vars(record) for record, _, _ in candidates])
        rows.append(_most_suspicious(*candidates[best], f"{title} {noise}".strip()))
    return rows


def _task_with_pictures(record: Record) -> Any:
    """The record's task, if it is known here with these parameters and its samples are images."""
    try:
        task: Any = build(TASKS.get(record.task), record.task_params)
    except RequestError:
        return None
    return None if type(task).pictures is Task.pictures else task


def _most_suspicious(record: Record, arrays: dict[str, np.ndarray], task: Any, where: str) -> Flagged:
    from reports.figures import Flagged

    task.check()
    split, truth = task.load(derive("data", task.name, record.seed))
    given = split.train.labels.numpy()
    if truth is None or not np.array_equal(truth != given, arrays["noisy"]):
        raise RequestError(f"the data at hand is not what {where}, seed {record.seed}, was run on")
    order = np.argsort(-np.where(arrays["flagged"], arrays["scores"], -np.inf), kind="stable")[:SHOWN]
    images = task.pictures(split, order)
    names = task.class_names() or [str(c) for c in range(split.n_classes)]
    precision = arrays["noisy"][arrays["flagged"]].mean()
    title = (
        f"{where}, protocol {record.protocol}, preset {record.preset}, seed {record.seed}: the {len(order)} most "
        f"suspicious of {int(arrays['flagged'].sum())} flagged by {record.method_title}; {100 * precision:.0f} % of "
        "these have a wrong label"
    )
    return Flagged(title, images, [names[c] for c in given[order]], [names[c] for c in np.asarray(truth)[order]])


def _write(content: bytes, path: str) -> None:
    try:
        write_whole(Path(path), content)
    except OSError as error:
        raise RequestError(f"--output {path} cannot be written: {error.strerror}") from error
