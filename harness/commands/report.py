"""``report``: the whole comparison, one of the paper's tables or figures, or the tidy table, from a results folder."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.options import add_data_dir, add_output, add_plugin
from harness.commands.printing import plain_cells, put, say_problems, say_unknown
from harness.errors import RequestError, Unsupported
from harness.results.folder import Results
from harness.selection.plugins import load_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands
    from reports.page import Figure

FORMATS = {"md": "markdown", "html": "one page, with figures", "latex": "tables for a paper", "csv": "the tidy table"}


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
        help="a table of the paper, 1 to 9 or figure3; attribution, the check against retraining; budget, the gain at "
        "each budget; or sweep, the parameters that were run at several values",
    )
    what.add_argument(
        "--figure",
        metavar="NAME",
        help="a figure of the paper, 1 to 5 (1 and 2 read the task's data), or inspection, precision-recall, "
        "cost, scores, correlation, ranks, protocols",
    )
    what.add_argument(
        "--baseline", metavar="METHOD", help="the difference of every method to this one, with intervals and p-values"
    )
    what.add_argument(
        "--compare-protocols", action="store_true", help="what the protocol changes, as a whole and by each quirk"
    )
    what.add_argument(
        "--judge", metavar="METHOD", help="rank correlation of every method with this one, such as leave_one_out"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--methods", metavar="SELECTION", help="show these methods alone (default: all in OUT)")
    told = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    how.add_argument("--format", default="md", choices=tuple(FORMATS), help=f"{told} (default: md)")
    how.add_argument("--wide", action="store_true", help="all columns (default: those that most readers need)")
    add_output(how, "the report, or the figure (.png, .pdf or .svg; default: figureN.png or figure-NAME.png),")
    add_data_dir(how)
    add_plugin(how)


def main(args: argparse.Namespace) -> int:
    from harness.data.files import in_folder

    if args.format == "csv" and (args.table or args.figure or args.baseline or args.compare_protocols):
        raise RequestError(
            "--format csv is the whole tidy table; leave out --table, --figure, --baseline and --compare-protocols"
        )
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
            path = args.output or f"figure{'' if args.figure.isdigit() else '-'}{args.figure}.png"
            named = {record.method for record in results.records} if args.methods else set()
            put(_figure(args.figure, results, path, named.pop() if len(named) == 1 else None), path)
            print(path)
        else:
            put(_text(results, args), args.output)
            if args.output:
                print(args.output)
    asked = args.table or args.figure or args.judge or args.baseline or args.compare_protocols
    shows_problems = args.format != "csv" and not asked
    say_problems([] if shows_problems else results.problems)
    say_unknown(results)
    return 0


def _text(results: Results, args: argparse.Namespace) -> str:
    """What the options ask for, in the wanted format."""
    from harness.results.agreement import agreement
    from reports.against import against
    from reports.attribution import attribution_tables
    from reports.budgets import budget_tables
    from reports.comparison import sections
    from reports.growth import growth_table
    from reports.judged import judged
    from reports.markdown import provenance, report
    from reports.method_notes import method_notes
    from reports.page import html_page
    from reports.paper_tables import paper_table
    from reports.protocols import protocol_report
    from reports.sweeps import sweep_tables

    if args.judge:
        frame = agreement(results, args.judge)
        if args.format == "csv":
            return plain_cells(frame).to_csv(index=False)
        return _formatted(judged(frame, args.judge, provenance(results.frame, results.commands)), args.format)
    if args.format == "csv":
        return plain_cells(results.frame).to_csv(index=False)
    if args.baseline:
        return _formatted(against(sections(results.frame, results.stale), args.baseline), args.format)
    if args.compare_protocols:
        return _formatted(protocol_report(sections(results.frame, results.stale), results.path), args.format)
    made = {"6": growth_table, "sweep": sweep_tables}.get(args.table)
    if made is not None:
        return _formatted(made(results.frame, results.stale), args.format)
    if args.table == "attribution":
        return _formatted(attribution_tables(sections(results.frame, results.stale)), args.format)
    if args.table == "budget":
        return _formatted(budget_tables(results.frame, results.stale), args.format)
    if args.table:
        return _formatted(paper_table(results.frame, args.table, results.stale), args.format)
    frame, problems = results.frame, list(dict.fromkeys(results.problems))
    whole = report(frame, commands=results.commands, stale=results.stale, problems=problems, wide=args.wide)
    if args.format == "html":
        return html_page(whole, _page_figures(results), method_notes(record.method for record in results.records))
    return _formatted(whole, args.format)


def _formatted(text: str, form: str) -> str:
    """A report in markdown in the wanted format."""
    from reports.harmless import harmless
    from reports.latex import latex
    from reports.page import html_page

    return html_page(text) if form == "html" else latex(text) if form == "latex" else harmless(text)


def _page_figures(results: Results) -> list[Figure]:
    """The figures that can be drawn from the results, and from the data if it is at hand."""
    from reports.figures.drawn import FIGURES
    from reports.page import Figure

    figures = []
    for name, drawn in FIGURES.items():
        with suppress(RequestError, Unsupported):  # most results lack the numbers of most figures
            title = (
                f"Figure {name} of the paper: {drawn.title}"
                if name.isdigit()
                else drawn.title[0].upper() + drawn.title[1:]
            )
            figures.append(Figure(title, _figure(name, results, "figure.png"), drawn.photos))
    return figures


def _figure(name: str, results: Results, path: str, method: str | None = None) -> bytes:
    from reports.figures.drawn import figure_called
    from reports.figures.style import encoded

    figure = figure_called(name).draw(results, method)
    try:
        return encoded(figure, Path(path).suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise RequestError(f"--output {path} has no suffix of a picture: {error}") from error


class Markdown(str):
    """A text that notebooks show as tables."""

    def _repr_markdown_(self) -> str:
        return str(self)


def report(
    out: str | Path = "results",
    *,
    table: str | None = None,
    methods: str | None = None,
    baseline: str | None = None,
    compare_protocols: bool = False,
    wide: bool = False,
) -> Markdown:
    """The report of a results folder, as ``python -m harness report`` prints it; notebooks show it as tables.

    Args:
        out: a results folder.
        table: one table instead of the whole comparison: 1 to 9, ``figure3``, ``attribution``, ``budget`` or
            ``sweep``.
        methods: a selection of methods; None for all.
        baseline: a method; the differences of every other method to it instead of the whole comparison.
        compare_protocols: what the protocol changes instead of the whole comparison.
        wide: all columns of the whole comparison.

    Raises:
        RequestError: the folder is no results folder, or there is no such table or method.
    """
    results = Results.read(out)
    if methods:
        results = results.of_methods(methods)
    if results.frame.empty and not results.problems:
        raise RequestError(f"{out} holds no results yet; `run --out {out}` fills it")
    return Markdown(
        _text(
            results,
            argparse.Namespace(
                judge=None, table=table, format="md", baseline=baseline, compare_protocols=compare_protocols, wide=wide
            ),
        )
    )
