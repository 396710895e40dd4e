"""What `find --clean` writes: the data without its errors, every other value as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

import harness
from harness.finding.ask import find_errors
from tests.command_line import call
from tests.own_data import NAMES, WRITERS, cancer


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.parquet", "data.jsonl"])
@pytest.mark.parametrize("how", ["drop", "relabel", "mark"])
def test_the_cleaned_file(name: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, _ = cancer()
    table["note"] = 'keep, "this" as it is'
    table.iloc[5, table.columns.get_loc("diagnosis")] = None
    writer = WRITERS[name] if name in WRITERS else WRITERS["my data, [v2].tsv"]
    writer(table, tmp_path / name)
    before = (tmp_path / name).read_bytes()

    options = ["--labels", "diagnosis", "--clean", str(tmp_path / f"new_{name}"), "--clean-how", how]
    options += ["--format", "csv", "--output", str(tmp_path / "out.csv")]
    code, _, err = call(capsys, "find", str(tmp_path / name), *options)

    assert code == 0, err
    assert (tmp_path / name).read_bytes() == before
    listed = pd.read_csv(tmp_path / "out.csv")
    suspects = set(listed["row"])
    frame = harness.find(
        tmp_path / f"new_{name}", "diagnosis", ignore=["suspect", "suggested_label"][: 2 * (how == "mark")]
    )
    if how == "drop":
        assert len(frame) == len(table) - len(suspects) - 1
    elif how == "relabel":
        changed = frame["given"].sort_index() != table["diagnosis"].drop(index=5)
        assert set(changed[changed].index) == suspects
    else:
        assert set(frame.index[frame["suspect"].astype(str).isin(["True", "true"])]) == suspects
    if how != "mark":
        assert frame["probably_wrong"].sum() < len(suspects) / 3
    assert set(frame["note"]) == {'keep, "this" as it is'}


def test_a_csv_keeps_its_own_spelling(tmp_path: Path) -> None:
    """Numbers, blanks and leading zeros of a CSV file are not written in another way."""
    table, _ = cancer()
    lines = table.assign(zip="00123", size="1.50").to_csv(index=False).splitlines(keepends=True)
    (tmp_path / "data.csv").write_text("".join(lines))

    found = find_errors(tmp_path / "data.csv", "diagnosis")
    task: Any = found.task
    task.write(tmp_path / "new.csv", "drop", *found.by_position())

    kept = set((tmp_path / "new.csv").read_text().splitlines(keepends=True))
    assert kept < set(lines)
    assert len(lines) - len(kept) == len(found.wrong)


def test_columns_called_as_the_results_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table, _ = cancer()
    table = table.assign(given="USER", given_found="too", row=np.arange(len(table)) % 7)
    table.to_csv(tmp_path / "data.csv", index=False)
    frame = harness.find(tmp_path / "data.csv", "diagnosis")
    assert set(frame["given"]) == {"USER"}
    assert set(frame["given_found_found"]) == set(NAMES)
    code, out, _ = call(capsys, "find", str(tmp_path / "data.csv"), "--labels", "diagnosis", "--top", "3")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("row"))
    assert line.split()[:3] == ["row", "given", "suggested"]
    assert "USER" not in out.splitlines()[out.splitlines().index(line) + 1].split()[:3]


def test_values_of_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    """Large integers beside missing ones, and all digits of floats, in Parquet and in JSON lines."""
    table, _ = cancer()
    big = pd.array([2**53 + 1, None, *range(len(table) - 2)], dtype="Int64")
    table = table.assign(big=big, exact=np.pi * np.arange(len(table)) / 7)
    table.to_parquet(tmp_path / "data.parquet", index=False)
    found = find_errors(tmp_path / "data.parquet", "diagnosis")
    task: Any = found.task
    task.write(tmp_path / "new.parquet", "relabel", *found.by_position())
    again = pd.read_parquet(tmp_path / "new.parquet", dtype_backend="pyarrow")
    assert again["big"].iloc[0] == 2**53 + 1
    assert again["big"].dtype == "int64[pyarrow]"

    lines = [
        json.dumps({"big": 2**60 + k if k % 9 else None, **row})
        for k, row in enumerate(table.drop(columns="big").to_dict("records"))
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    found = find_errors(tmp_path / "data.jsonl", "diagnosis")
    task = found.task
    task.write(tmp_path / "new.jsonl", "relabel", *found.by_position())
    new = (tmp_path / "new.jsonl").read_text().splitlines()
    changed = [k for k, (one, other) in enumerate(zip(lines, new, strict=True)) if one != other]
    assert set(changed) == set(found.wrong.index)
    for k in changed:
        one, other = json.loads(lines[k]), json.loads(new[k])
        assert {key for key in one if one[key] != other[key]} == {"diagnosis"}


def test_arrays_are_written_as_arrays(tmp_path: Path) -> None:
    values, labels = load_wine(return_X_y=True)
    given = labels.copy()
    given[:8] = (given[:8] + 1) % 3
    np.savez(tmp_path / "data.npz", features=values, labels=given, names=np.array(["a", "b"]))
    found = find_errors(tmp_path / "data.npz")
    task: Any = found.task
    for how in ("drop", "relabel", "mark"):
        task.write(tmp_path / f"{how}.npz", how, *found.by_position())
    count = len(found.wrong)
    with np.load(tmp_path / "drop.npz") as dropped, np.load(tmp_path / "relabel.npz") as relabelled:
        assert dropped["features"].shape == (178 - count, 13)
        assert dropped["names"].tolist() == ["a", "b"]
        assert (relabelled["labels"] != given).sum() == count
    with np.load(tmp_path / "mark.npz") as marked:
        assert marked["suspect"].sum() == count
