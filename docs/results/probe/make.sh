#!/usr/bin/env bash
# The tables and the picture of docs/results/probe, from the records in records.jsonl.gz:
#
#     docs/results/probe/make.sh
set -euo pipefail
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python "$here/records.py" unpack "$here/records.jsonl.gz" "$out/study"
python "$here/tables.py" "$out/study" >"$here/tables.md"
python "$here/figure.py" "$out/study" "$here/gains.png"
python "$here/findings.py" "$out/study" >"$here/findings.md"
