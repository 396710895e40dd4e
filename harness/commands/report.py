"""``report``: the whole comparison, one of the paper's tables or figures, or the tidy table, from a results folder."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_plugin
from harness.commands.output import put
from harness.errors import RequestError
from harness.records.requests import remembered
from harness.records.store import Store
from harness.results.names import relabelled
from harness.results.staleness import stale_keys, unknown_names
from harness.results.table import load_results
from harness.selection.plugins import load_plugin

if TYPE_CHECKING:
    import pandas as pd

    from harness.commands.options import Commands

FIGURES = ("2", "3", "4", "5")
FORMATS = {"md": "markdown", "html": "one page, with figures", "latex": "tables for a paper", "csv": "the tidy table"}
ON_PAGES = {"3": "accuracy by epoch", "4": "influence of classes on classes", "5": "gain by trimming budget"}
"""Figures that an HTML page shows where the results have them; Figure 2 needs the data, too."""


def add(commands: Commands) -> None:
    report = commands.add_parser("report", help="tables and figures from a results folder")
    report.add_argument("out", metavar="OUT")
    one = report.add_mutually_exclusive_group()
    one.add_argument("--table", metavar="N", help="one of the paper's tables alone: 1 to 5, 7, 8, 9, or figure3")
    one.add_argument("--figure", metavar="N", help="one of the paper's figures: 2 (needs the data), 3, 4 or 5")
    one.add_argument("--judge", metavar="METHOD", help="rank correlation of every method with one: leave_one_out")
    add_plugin(report, "to tell stale results")
    told = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    report.add_argument("--format", default="md", choices=tuple(FORMATS), help=f"{told} (default: %(default)s)")
    report.add_argument("--output", metavar="PATH", help="a file instead of standard output (figures: figureN.png)")
    add_data_dir(report)


def main(args: argparse.Namespace) -> int:
    from harness.data.files import in_folder

    if args.judge:
        return _judged(args)
    with in_folder(args.data_dir):
        run(args.out, args.format, args.table, args.figure, args.output, args.plugin)
    return 0


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
        form: ``md``, ``html``, ``latex`` or ``csv``.
        table, figure: a number of the paper's, for that alone.
        output: the file; a figure's suffix decides its format, and ``figureN.png`` is its default.
        plugins: to tell stale results.

    Raises:
        RequestError: nothing to report, no such table or figure, or a file that cannot be written.
    """
    if form == "csv" and (table or figure):
        raise RequestError("--format csv is the whole tidy table; leave out --table and --figure")
    if form != "md" and figure:
        raise RequestError(f"--format {form} is for tables; a figure's format is the suffix of --output")
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
        put(_figure(figure, frame, out, path), path)
        print(path)
        return
    text = _text(frame, form, table, out, problems)
    unknown = unknown_names(frame)
    if unknown:
        print(f"not known here, so perhaps stale: {', '.join(unknown)}; --plugin FILE tells", file=sys.stderr)
    put(text, output)


def _judged(args: argparse.Namespace) -> int:
    from harness.results.agreement import agreement
    from reports.judged import judged
    from reports.markdown import provenance

    for plugin in args.plugin:
        load_plugin(plugin)
    frame = agreement(args.out, args.judge)
    if args.format == "csv":
        put(frame.to_csv(index=False), args.output)
        return 0
    made = provenance(load_results(args.out), _commands(args.out))
    put(_formatted(judged(frame, args.judge, made), args.format), args.output)
    return 0


def _text(frame: pd.DataFrame, form: str, table: str | None, out: str, problems: Sequence[str]) -> str:
    from reports.markdown import report
    from reports.paper_tables import paper_table

    if form == "csv":
        return frame.to_csv(index=False)
    if table is not None:
        return _formatted(paper_table(frame, table, stale_keys(frame)), form)
    whole = report(frame, commands=_commands(out), stale=stale_keys(frame), problems=problems)
    return _formatted(whole, form, _page_figures(frame, out) if form == "html" else ())


def _formatted(text: str, form: str, figures: Sequence[tuple[str, bytes]] = ()) -> str:
    """A report in markdown in the wanted format."""
    from reports.latex import latex
    from reports.page import html_page

    return html_page(text, figures) if form == "html" else latex(text) if form == "latex" else text


def _page_figures(frame: pd.DataFrame, out: str) -> list[tuple[str, bytes]]:
    found = []
    for number, title in ON_PAGES.items():
        with suppress(RequestError):  # most results are of other experiments
            found.append((f"Figure {number}: {title}", _figure(number, frame, out, "figure.png")))
    return found


def _commands(out: str) -> list[str]:
    return [request.command for request in remembered(Store(out)) if request.command]


def _figure(number: str, frame: pd.DataFrame, out: str, path: str) -> bytes:
    from harness.results.influential import attributions
    from harness.results.pictures import flagged_pictures
    from reports.curves import curve_figure
    from reports.figures import FLAGGED_BY, budget_figure, flagged_grid, most_like_published
    from reports.heatmaps import heat_maps

    if number not in FIGURES:
        raise RequestError(f"there is no Figure {number} here; there is: {', '.join(FIGURES)}")
    if number == "2":
        figure = flagged_grid(flagged_pictures(out, FLAGGED_BY, most_like_published))
    elif number == "4":
        figure = heat_maps(attributions(out, stale_keys(frame)))
    else:
        figure = {"3": curve_figure, "5": budget_figure}[number](frame, stale_keys(frame))
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format=Path(path).suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise RequestError(f"--output {path} has no suffix of a picture: {error}") from error
    return buffer.getvalue()
