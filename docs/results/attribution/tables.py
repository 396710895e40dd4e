"""The table of docs/results/attribution and its picture, from the study's records, whatever commit computed them.

python docs/results/attribution/tables.py OUT docs/results/attribution/cost.png >docs/results/attribution/tables.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.results.folder import Results
from reports.attribution import attribution_tables
from reports.comparison import sections
from reports.figures.cost import cost_figure
from reports.figures.style import encoded
from reports.markdown import provenance

out, picture = sys.argv[1:]
results = Results.read(out)
attributed = results.frame[results.frame["task"].str.startswith("lds_")]
print("\n\n".join([attribution_tables(sections(attributed)).rstrip(), *provenance(results.frame, results.commands)]))
Path(picture).write_bytes(encoded(cost_figure(attributed), "png"))
