"""The tables of docs/results/prompts, from the study's records, whatever commit computed them.

python docs/results/prompts/tables.py OUT >docs/results/prompts/tables.md
"""

from __future__ import annotations

import sys

from harness.results.folder import Results
from reports.markdown import provenance, tables

results = Results.read(sys.argv[1])
print("\n\n".join([tables(results.frame).rstrip(), *provenance(results.frame, results.commands)]))
