"""The study's records without their scores, in one file that can be committed.

    python docs/results/probe/records.py pack OUT docs/results/probe/records.jsonl.gz
    python docs/results/probe/records.py unpack docs/results/probe/records.jsonl.gz OUT

`pack` computes the detection metrics of each record and leaves the scores out. `unpack` makes a results folder again.
`report`, `status` and `compare` read it like any other, and `run` continues it, if the code is that of the records'
commit. What needs raw scores (`suspects`, `--figure inspection`) does not work on it.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

from harness.data.kept_files import write_whole
from harness.records.store import Record, Store
from harness.results.folder import Results
from harness.results.table import detection_metrics


def pack(out: str, file: str) -> None:
    """Write the records of a results folder and the requests that made them, one JSON object per line, sorted."""
    results = Results.read(out)
    lines = [
        {"request": _anywhere(json.loads(path.read_text()))} for path in sorted((Path(out) / "requests").glob("*"))
    ]
    for record in results.records:
        arrays = results.arrays(record)
        if arrays is not None:
            light = replace(record, metrics={**detection_metrics(arrays), **record.metrics}, scores_sha256=None)
            lines.append({"record": asdict(light)})
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        packed.write("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode())
    Path(file).write_bytes(buffer.getvalue())
    print(f"{len(results.records)} records, {len(buffer.getvalue()) / 2**20:.1f} MiB: {file}")


def _anywhere(request: dict[str, str]) -> dict[str, str]:
    """A request whose command names no folder of the machine that ran it."""
    command = re.sub(r"--data-dir \S+", "--data-dir DATA", request["command"])
    return {**request, "command": re.sub(r"--out \S+", "--out OUT", command)}


def unpack(file: str, out: str) -> None:
    """Make a results folder of the records. Records that the folder has already are kept."""
    store = Store(out, create=True)
    (store.path / "requests").mkdir(exist_ok=True)
    with gzip.open(file, "rt", encoding="utf-8") as packed:
        for number, line in enumerate(packed):
            content = json.loads(line)
            if "request" in content:
                path = store.path / "requests" / f"packed-{number}.json"
                text = json.dumps(content["request"], indent=1, sort_keys=True)
            else:
                record = Record(**content["record"])
                path = store.scores_file(record).with_suffix(".json")
                text = json.dumps(asdict(record), indent=1, sort_keys=True)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, (text + "\n").encode())


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](*sys.argv[2:4])
