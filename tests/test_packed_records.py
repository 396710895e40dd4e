"""Records of a study in one file: without their scores they give the same tables, and no cell is run again."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import harness
from harness.cli import main
from harness.records.store import Store

SCRIPT = Path(__file__).parents[1] / "docs" / "results" / "probe" / "records.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("packed_records", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packed_and_unpacked_records_give_the_same_tables(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, packed, light = tmp_path / "whole", tmp_path / "records.jsonl.gz", tmp_path / "light"
    frame = harness.run("outlier_l1,random", "moons[budget=0.1|0.2]", 2, preset="smoke", out=whole)
    script.pack(str(whole), str(packed))
    first = packed.read_bytes()
    script.pack(str(whole), str(packed))
    assert packed.read_bytes() == first  # no time in it, so a diff shows new records alone
    script.unpack(str(packed), str(light))
    again = harness.load_results(light)
    order = ["key", "metric"]
    columns = [*order, "value", "method_spec", "task_spec"]
    pd.testing.assert_frame_equal(
        frame[columns].sort_values(order, ignore_index=True), again[columns].sort_values(order, ignore_index=True)
    )
    assert harness.report(light, table="budget") == harness.report(whole, table="budget")
    assert not list(light.rglob("*.npz"))
    capsys.readouterr()
    assert main(["status", str(light)]) == 0
    assert "8 cells: 8 ok" in capsys.readouterr().out
    harness.run("outlier_l1,random", "moons[budget=0.1|0.2]", 3, preset="smoke", out=light)
    assert len(list(light.rglob("*.npz"))) == 4  # the third seed alone was run


def test_the_studys_records_are_readable(script: ModuleType, tmp_path: Path) -> None:
    packed = SCRIPT.parent / "records.jsonl.gz"
    script.unpack(str(packed), str(tmp_path / "study"))
    store = Store(tmp_path / "study")
    records = list(store.headers())
    assert not store.problems
    assert len(records) > 1000
    assert {record.task for record in records} == {"cifar10n"}
