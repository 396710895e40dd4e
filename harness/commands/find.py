"""``find``: label errors in a user's own data."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.options import add_output, add_plugin

if TYPE_CHECKING:
    from harness.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "find",
        help="find label errors in your own data: a table, a folder of images, a dataset or arrays",
        description="Find label errors in your own data. A model is cross-validated on the data, and its out-of-sample "
        "probabilities show which labels are probably wrong, and how many.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a CSV, TSV, Parquet or JSON lines file; a folder of images, in one sub-folder per class or with a table "
        "of labels; a dataset of the Hugging Face hub, or a folder that save_to_disk wrote; or an .npz file",
    )
    read = parser.add_argument_group("what the data means")
    read.add_argument("--labels", metavar="COLUMN", help="the column of labels; sub-folders of images need none")
    read.add_argument("--ignore", metavar="COLUMNS", default="", help="columns that no model sees, comma-separated")
    read.add_argument("--groups", metavar="COLUMN", help="rows with the same value are judged by the same model")
    how = parser.add_argument_group("how errors are found")
    how.add_argument("--method", metavar="METHOD", help=f"ranks the samples (default: {DEFAULT})")
    how.add_argument(
        "--compare",
        nargs="?",
        const="all",
        metavar="METHODS",
        help="plant known errors in copies of the data, compare detectors (default: all) on them, and rank the samples "
        "by the best one",
    )
    how.add_argument("--seeds", type=int, default=3, metavar="N", help="copies per kind of planted error (default: 3)")
    how.add_argument("--folds", type=int, default=5, metavar="N", help="of the cross-validation (default: 5)")
    how.add_argument("--model", default="auto", choices=("auto", "linear", "boosting"), help="default: auto")
    how.add_argument("--encoder", metavar="NAME", help="the frozen encoder of images (default: efficientnet_lite0)")
    how.add_argument("--pixels", type=int, metavar="N", help="the side to which images are scaled (default: 128)")
    how.add_argument(
        "--text-encoder",
        metavar="NAME",
        help="an encoder of texts instead of TF-IDF: all_minilm_l6_v2, or a name or folder of transformers",
    )
    add_plugin(how)
    out = parser.add_argument_group("what comes out")
    out.add_argument("--format", default="text", choices=("text", "csv", "html"), help="default: text")
    out.add_argument("--top", type=int, metavar="N", help="list N samples instead of the probably wrong ones")
    add_output(out, "the result")
    out.add_argument("--clean", metavar="FILE", help="write the data again, never over the input")
    out.add_argument(
        "--clean-how",
        choices=("drop", "relabel", "mark"),
        help="without the probably wrong rows, with the suggested labels, or with a column that marks them "
        "(default: drop)",
    )


DEFAULT = "confident_learning[rounds=2]"
"""The method that ranks and counts unless the user names another one."""


def main(args: argparse.Namespace) -> int:
    from harness.commands.printing import put
    from harness.errors import RequestError
    from harness.finding.ask import find_errors
    from harness.finding.found import free
    from reports.found_page import found_page
    from reports.found_text import found_text

    if args.top is not None and args.top < 1:
        raise RequestError(f"--top {args.top} is not valid; give at least 1")
    if args.seeds < 1:
        raise RequestError(f"--seeds {args.seeds} is not valid; give at least 1")
    if args.output is not None and _same(args.output, args.data):
        raise RequestError(f"--output {args.output} is the input; give another file")
    if args.clean_how is not None and args.clean is None:
        raise RequestError(f"--clean-how {args.clean_how} goes with --clean FILE; say where to write the data")
    for option, path in (("--output", args.output), ("--clean", args.clean)):
        if path is not None and _inside(path, args.data):
            raise RequestError(f"{option} {path} lies in the folder of the data; give a path outside of it")
    if args.output is not None and args.output == args.clean:
        raise RequestError(f"--output {args.output} and --clean name one file; give two")
    if args.output is not None and not Path(args.output).absolute().parent.is_dir():
        raise RequestError(f"--output {args.output}: there is no folder {Path(args.output).absolute().parent}")
    if args.clean is not None and _same(args.clean, args.data):
        raise RequestError(f"--clean {args.clean} is the input, which is never overwritten; give another file")
    params = {"folds": args.folds, "model": args.model, "encoder": args.encoder, "pixels": args.pixels}
    params["text_encoder"] = args.text_encoder
    start = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - start:5.0f} s] {what}", file=sys.stderr)

    found = find_errors(
        args.data,
        args.labels,
        ignore=[name.strip() for name in args.ignore.split(",") if name.strip()],
        groups=args.groups,
        method=args.method,
        compare=args.compare,
        seeds=args.seeds,
        plugins=args.plugin,
        clean=None if args.clean is None else Path(args.clean),
        say=say,
        **{name: value for name, value in params.items() if value is not None},
    )
    if args.clean is not None:
        suspects, suggested = found.by_position()
        assert found.task is not None
        print(found.task.write(Path(args.clean), args.clean_how or "drop", suspects, suggested), file=sys.stderr)
    if args.format == "csv":
        table = found.table(args.top)
        put(table.to_csv(index_label=free("row", set(map(str, table.columns)))), args.output)
    elif args.format == "html":
        put(found_page(found, args.top), args.output)
    else:
        put(found_text(found, args.top), args.output)
    return 0


def _inside(path: str, data: str) -> bool:
    folder = Path(data).expanduser()
    return folder.is_dir() and Path(path).expanduser().resolve().is_relative_to(folder.resolve())


def _same(one: str, other: str) -> bool:
    paths = Path(one).expanduser(), Path(other).expanduser()
    return paths[0].exists() and paths[1].exists() and paths[0].samefile(paths[1])
