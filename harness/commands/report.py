"""``report``: the whole comparison, one of the paper's tables or figures, or the tidy table, from a results folder."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_output, add_plugin
from harness.commands.printing import put, say_problems, say_unknown
from harness.errors import RequestError
from harness.results.folder import Results
from harness.selection.plugins import load_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands

FIGURES = ("2", "3", "4", "5")
FORMATS = {"md": "markdown", "html": "one page, with figures", "latex": "tables for a paper", "csv": "the tidy table"}
ON_PAGES = {"3": "accuracy by epoch", "4": "influence of classes on classes", "5": "gain by trimming budget"}
"""Figures of an HTML page, if the results have the numbers. Figure 2 is not among them: it needs the data files."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "report",
        help="print tables and figures of a results folder",
        description="Print the whole comparison, one table or figure of the paper, or the tidy table.",
    )
    parser.add_argument("out", metavar="OUT", help="a results folder")
    what = parser.add_argument_group("what to print (default: the whole comparison)").add_mutually_exclusive_group()
    what.add_argument(
        "--table",
        metavar="N",
        help="a table of the paper: 1 to 5, 7, 8, 9 or figure3; or budget, the gain at each budget",
    )
    what.add_argument("--figure", metavar="N", help="one figure of the paper: 2, which needs the data, 3, 4 or 5")
    what.add_argument(
        "--judge", metavar="METHOD", help="rank correlation of every method with this one, such as leave_one_out"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--methods", metavar="SELECTION", help="show these methods alone (default: all in OUT)")
    told = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    how.add_argument("--format", default="md", choices=tuple(FORMATS), help=f"{told} (default: md)")
    add_output(how, "the report, or the figure (default: figureN.png),")
    add_data_dir(how)
    add_plugin(how)


def main(args: argparse.Namespace) -> int:
    from harness.data.files import in_folder

    if args.format == "csv" and (args.table or args.figure):
        raise RequestError("--format csv is the whole tidy table; leave out --table and --figure")
    if args.format != "md" and args.figure:
        raise RequestError(f"--format {args.format} is for tables; a figure's format is the suffix of --output")
    for plugin in args.plugin:
        load_plugin(plugin)
    results = Results.read(args.out)
    if args.methods:
        results = results.of_methods(args.methods)
    with in_folder(args.data_dir):
        if results.frame.empty and not results.problems:
            raise RequestError(f"{args.out} holds no results yet; `run --out {args.out}` fills it")
        if args.figure:
            path = args.output or f"figure{args.figure}.png"
            put(_figure(args.figure, results, path), path)
            print(path)
        else:
            put(_text(results, args), args.output)
    shows_problems = args.format != "csv" and not (args.table or args.figure or args.judge)
    say_problems([] if shows_problems else results.problems)
    say_unknown(results)
    return 0


def _text(results: Results, args: argparse.Namespace) -> str:
    """What the options ask for, in the wanted format."""
    from harness.results.agreement import agreement
    from reports.budgets import budget_tables
    from reports.judged import judged
    from reports.markdown import provenance, report
    from reports.paper_tables import paper_table

    if args.judge:
        frame = agreement(results, args.judge)
        if args.format == "csv":
            return frame.to_csv(index=False)
        return _formatted(judged(frame, args.judge, provenance(results.frame, results.commands)), args.format)
    if args.format == "csv":
        return results.frame.to_csv(index=False)
    if args.table == "budget":
        return _formatted(budget_tables(results.frame, results.stale), args.format)
    if args.table:
        return _formatted(paper_table(results.frame, args.table, results.stale), args.format)
    frame, problems = results.frame, list(dict.fromkeys(results.problems))
    whole = report(frame, commands=results.commands, stale=results.stale, problems=problems)
    return _formatted(whole, args.format, _page_figures(results) if args.format == "html" else ())


def _formatted(text: str, form: str, figures: Sequence[tuple[str, bytes]] = ()) -> str:
    """A report in markdown in the wanted format."""
    from reports.latex import latex
    from reports.page import html_page

    return html_page(text, figures) if form == "html" else latex(text) if form == "latex" else text


def _page_figures(results: Results) -> list[tuple[str, bytes]]:
    """The figures that can be drawn from the results, with their titles."""
    figures = []
    for number, title in ON_PAGES.items():
        with suppress(RequestError):  # most results lack the numbers of most figures
            figures.append((f"Figure {number}: {title}", _figure(number, results, "figure.png")))
    return figures


def _figure(number: str, results: Results, path: str) -> bytes:
    from harness.results.influential import attributions
    from harness.results.pictures import flagged_pictures
    from reports.curves import curve_figure
    from reports.figures import FLAGGED_BY, budget_figure, flagged_grid, most_like_published
    from reports.heatmaps import heat_maps

    if number not in FIGURES:
        raise RequestError(f"there is no Figure {number} here; there is: {', '.join(FIGURES)}")
    if number == "2":
        figure = flagged_grid(flagged_pictures(results, FLAGGED_BY, most_like_published))
    elif number == "4":
        figure = heat_maps(attributions(results))
    else:
        figure = {"3": curve_figure, "5": budget_figure}[number](results.frame, results.stale)
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format=Path(path).suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise RequestError(f"--output {path} has no suffix of a picture: {error}") from error
    return buffer.getvalue()


class Markdown(str):
    """A text that notebooks show as tables."""

    def _repr_markdown_(self) -> str:
        return str(self)


def report(out: str | Path = "results", *, table: str | None = None, methods: str | None = None) -> Markdown:
    """The report of a results folder, as ``python -m harness report`` prints it; notebooks show it as tables.

    Args:
        out: a results folder.
        table: one table instead of the whole comparison: 1 to 5, 7, 8, 9, ``figure3`` or ``budget``.
        methods: a selection of methods; None for all.

    Raises:
        RequestError: the folder is no results folder, or there is no such table.
    """
    results = Results.read(out)
    if methods:
        results = results.of_methods(methods)
    if results.frame.empty and not results.problems:
        raise RequestError(f"{out} holds no results yet; `run --out {out}` fills it")
    return Markdown(_text(results, argparse.Namespace(judge=None, table=table, format="md")))
