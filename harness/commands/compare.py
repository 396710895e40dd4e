"""``compare``: fail a build when a detector got worse."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from harness.commands.options import add_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    from harness.compare import DEFAULT_RULES

    compare = commands.add_parser(
        "compare",
        help="is NEW worse than BASE? exit code 0: no worse, 1: worse, 2: nothing comparable",
        description="Compare two results, paired by cell over seeds. Something is worse when the confidence interval "
        "of its paired difference lies wholly beyond the tolerance; times are compared within one machine only. Exit "
        "code 0: no worse, 1: worse, 2: nothing comparable, or the request was wrong.",
    )
    compare.add_argument("base", metavar="BASE", help="a results folder, or a file of `baseline write`")
    compare.add_argument("new", metavar="NEW", help="likewise")
    compare.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="METRIC:DELTA",
        help="how far a metric may move, auroc:-0.02 or score_seconds:+25%% (repeatable; default: "
        f"{', '.join(DEFAULT_RULES)})",
    )
    compare.add_argument("--methods", metavar="SELECTION", help="compare these alone (default: all in BASE)")
    compare.add_argument("--format", default="text", choices=("text", "md", "junit"), help="default: %(default)s")
    compare.add_argument("--output", metavar="PATH", help="a file instead of standard output")
    add_plugin(compare, "the plug-in of the methods, to tell stale results")


def main(args: argparse.Namespace) -> int:
    from harness.compare import DEFAULT_RULES, compare, parse_rule
    from harness.measured import measured
    from harness.output import put
    from harness.plugins import load_plugin
    from reports.gate import as_junit, as_markdown, as_text, summary

    for plugin in args.plugin:
        load_plugin(plugin)
    rules = {rule.metric: rule for rule in map(parse_rule, args.fail or DEFAULT_RULES)}
    base, new = measured(args.base), measured(args.new)
    if args.methods:
        base, new = (side[[_selected(label, args.methods) for label in side["method"]]] for side in (base, new))
    found = compare(base, new, list(rules.values()))
    _say_stale(args.new)
    put({"text": as_text, "md": as_markdown, "junit": as_junit}[args.format](found), args.output)
    if args.format != "text" or args.output:
        print(summary(found), file=sys.stderr)
    return found.exit_code


def _selected(label: str, selection: str) -> bool:
    from harness.spec import parse_selection, parse_term

    name, chosen = parse_term(label).pattern, False
    for term in parse_selection(selection):
        if term.matches(name) or term.pattern == label:
            chosen = not term.exclude
    return chosen


def _say_stale(path: str) -> None:
    from harness.results import load_results
    from harness.staleness import stale_keys
    from harness.store import is_store

    stale = len(stale_keys(load_results(path))) if is_store(path) else 0
    if stale:
        print(f"{stale} cells of {path} come from other code than this; run --rerun stale", file=sys.stderr)
