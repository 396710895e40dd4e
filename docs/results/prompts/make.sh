#!/usr/bin/env bash
# The tables and the numbers of docs/results/prompts, from the records in records.jsonl.gz:
#
#     docs/results/prompts/make.sh
set -euo pipefail
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python "$here/../probe/records.py" unpack "$here/records.jsonl.gz" "$out/study"
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" python "$here/findings.py" "$out/study" >"$here/findings.md"
python "$here/tables.py" "$out/study" >"$here/tables.md"
