#!/usr/bin/env bash
# The tables and the picture of docs/results/probe, from the records in records.jsonl.gz:
#
#     docs/results/probe/make.sh
set -euo pipefail
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python "$here/records.py" unpack "$here/records.jsonl.gz" "$out/study"
{
    echo '# Gain by budget: all tables of the study'
    echo
    echo 'Made by [make.sh](make.sh) from the records in `records.jsonl.gz`. `cifar10n` without a parameter is the noise *worst*.'
    echo
    python -m harness report "$out/study" --table budget | tail -n +3
} >"$here/tables.md"
python "$here/figure.py" "$out/study" "$here/gains.png"
