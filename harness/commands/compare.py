"""``compare``: fail a build when a detector got worse."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.commands.options import add_output, add_plugin
from harness.errors import RequestError

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    from harness.gate.verdicts import DEFAULT_RULES

    parser = commands.add_parser(
        "compare",
        help="tell whether results got worse; a gate for CI",
        description="Compare two results, paired by cell and seed. A metric is worse when the confidence interval of "
        "the mean difference lies wholly beyond the tolerance. Times are compared within one machine only. Exit code "
        "0: no worse. 1: worse. 2: nothing comparable, something of BASE is not in NEW, or the request was wrong.",
    )
    parser.add_argument("base", metavar="BASE", help="a results folder, or a file of `baseline write`")
    parser.add_argument("new", metavar="NEW", help="a results folder, or a file of `baseline write`")
    what = parser.add_argument_group("what is judged")
    what.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="METRIC:DELTA",
        help="how far a metric may move, such as auroc:-0.02 or score_seconds:+25%%; may be repeated (default: "
        f"{', '.join(DEFAULT_RULES)})",
    )
    what.add_argument("--methods", metavar="SELECTION", help="compare these methods alone (default: all in BASE)")
    what.add_argument("--allow-missing", action="store_true", help="accept that NEW lacks cells of BASE")
    what.add_argument(
        "--strict", action="store_true", help="exit with 1 also for what is undecided, not compared, or stale"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--format", default="text", choices=("text", "md", "junit"), help="default: text")
    add_output(how, "the comparison")
    add_plugin(how)


def main(args: argparse.Namespace) -> int:
    from harness.commands.printing import put, say_problems, say_stale
    from harness.gate.compare import compare
    from harness.gate.measured import from_results, measured
    from harness.gate.verdicts import DEFAULT_RULES, parse_rule
    from harness.records.store import is_store
    from harness.results.chosen import selected
    from harness.results.folder import Results
    from harness.selection.plugins import load_plugin
    from reports.gate import as_junit, as_markdown, as_text, summary

    for plugin in args.plugin:
        load_plugin(plugin)
    results = Results.read(args.new) if is_store(args.new) else None
    base = measured(args.base)
    new = measured(args.new) if results is None else from_results(results)
    others = {str(metric) for metric in base["metric"].dropna()}
    rules = {rule.metric: rule for rule in (parse_rule(text, others) for text in args.fail or DEFAULT_RULES)}
    if args.methods:
        known = {str(method) for method in base["method"]}
        base, new = (side[[selected(method, args.methods) for method in side["method"]]] for side in (base, new))
        if base.empty:
            raise RequestError(
                f"--methods {args.methods} leaves nothing of {args.base}; it has {', '.join(sorted(known))}"
            )
    comparison = compare(base, new, list(rules.values()))
    if args.allow_missing:
        comparison = replace(comparison, missing=[])
    say_problems([] if results is None else results.problems)
    stale = results is not None and say_stale(results)
    put({"text": as_text, "md": as_markdown, "junit": as_junit}[args.format](comparison), args.output)
    if args.format != "text" or args.output:
        print(summary(comparison), file=sys.stderr)
    if args.strict and not comparison.exit_code and (comparison.gaps or stale):
        return 1
    return comparison.exit_code
