#!/usr/bin/env bash
# The table, the picture and the numbers of docs/results/attribution, from the records in records.jsonl.gz:
#
#     docs/results/attribution/make.sh
set -euo pipefail
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python "$here/../probe/records.py" unpack "$here/records.jsonl.gz" "$out/study"
python "$here/tables.py" "$out/study" "$here/cost.png" >"$here/tables.md"
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" python "$here/findings.py" "$out/study" >"$here/findings.md"
