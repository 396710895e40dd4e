"""All tables of the study, from its records, whatever commit computed them.

    python docs/results/probe/tables.py OUT >docs/results/probe/tables.md

`report OUT --table budget` prints the same tables at the records' commit. Later, it leaves the records out as stale.
"""

from __future__ import annotations

import sys

from harness.results.folder import Results
from reports.budgets import budget_tables

HEAD = """# Gain by budget: all tables of the study

Made by [make.sh](make.sh) from the records in `records.jsonl.gz`, computed at commit {commit}. `cifar10n` without a
parameter is the noise *worst*.
"""


def main(out: str) -> None:
    frame = Results.read(out).frame
    print(HEAD.format(commit=", ".join(sorted(set(frame["commit"])))))
    print(budget_tables(frame).partition("\n\n")[2], end="")


if __name__ == "__main__":
    main(*sys.argv[1:2])
