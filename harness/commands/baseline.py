"""``baseline``: writes results into a small file to commit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.options import add_plugin
from harness.errors import RequestError
from harness.records.store import FAILURES, some_cells

if TYPE_CHECKING:
    import pandas as pd

    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "baseline",
        help="write results into a small file to commit, for `compare`",
        description="Write the metrics of a results folder into a small JSON file that is made to be committed.",
    )
    parser.add_argument(
        "action", choices=("write", "update"), help="write: a new file; update: replace the cells that OUT has"
    )
    parser.add_argument("out", metavar="OUT", help="a results folder")
    parser.add_argument("file", metavar="FILE", help="the file, such as baseline.json")
    add_plugin(parser)


def main(args: argparse.Namespace) -> int:
    import pandas as pd

    from harness.commands.printing import put, say_problems, stale_text
    from harness.gate.baseline import SECTION, read_baseline, read_provenance, write_text
    from harness.gate.measured import from_results
    from harness.results.folder import Results
    from harness.selection.plugins import load_plugin

    for plugin in args.plugin:
        load_plugin(plugin)
    exists = Path(args.file).exists()
    if args.action == "write" and exists:
        raise RequestError(f"{args.file} is there already; `baseline update` changes it")
    if args.action == "update" and not exists:
        raise RequestError(f"{args.file} is not there; `baseline write` makes it")
    results = Results.read(args.out)
    if results.frame.empty:
        raise RequestError(f"{args.out} holds no results yet; `run --out {args.out}` fills it")
    say_problems(results.problems)
    if results.stale:
        raise RequestError(stale_text(results))
    rows = from_results(results)
    failed = rows[rows["status"].isin(FAILURES)].drop_duplicates([*SECTION, "method", "seed"])
    if len(failed):
        first = failed.iloc[0]
        which = f"{first['method']} on {first['task_spec']}, seed {first['seed']}: {first['error']}"
        raise RequestError(
            f"{some_cells(len(failed))} of {args.out} failed ({which}); a baseline of failures guards nothing: "
            "run --rerun failed first"
        )
    count = len(rows.drop_duplicates([*SECTION, "method", "seed"]))
    cell = [*SECTION, "method", "seed"]
    provenance: Mapping[str, Any] = {}
    if exists:
        old, provenance = read_baseline(args.file), read_provenance(args.file)
        replaced = old.set_index(cell).index.isin(rows.set_index(cell).index)
        asked = [*SECTION, "method"]  # of other parameters, from before a default changed
        outdated = old.set_index(asked).index.isin(rows.set_index(asked).index) & ~old.set_index(
            [*asked, "params"]
        ).index.isin(rows.set_index([*asked, "params"]).index)
        rows = pd.concat([old[~(replaced | outdated)], rows])
    put(write_text(rows, _made(results.frame, provenance)), args.file)
    print(f"{args.file}: {some_cells(count)} of {args.out}", file=sys.stderr)
    return 0


def _made(frame: pd.DataFrame, before: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of the numbers: every commit, version and machine, including those of cells that an update keeps."""
    columns = {"commit": "commit", "torch": "torch", "python": "python", "machine": "device_name"}
    made = {"utc": max(frame["utc"])}
    for name, column in columns.items():
        known = before.get(name, [])
        earlier = known if isinstance(known, list) else [known]
        values = sorted({*frame[column], *map(str, earlier)})
        made[name] = values[0] if len(values) == 1 else values
    return made
