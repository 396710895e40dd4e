"""Tables over a parameter: sweeps of tasks and of methods, and the growth of costs with the number of samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from reports.growth import growth_table
from reports.sweeps import sweep_tables
from tests.test_reports import cell, frame, line


def test_a_sweep_of_a_task_is_one_table_with_a_column_per_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = harness.run("outlier_l1,random", "moons[spread=0.1|0.3|0.2]", 2, preset="smoke", out=tmp_path)
    assert main(["report", str(tmp_path), "--table", "sweep"]) == 0
    text = capsys.readouterr().out
    assert text.count("## ") == 1
    assert "## Half moons: `spread`, protocol fair, preset smoke" in text
    assert line(text, "Method") == ["Method", "spread=0.1", "spread=0.2", "spread=0.3"]
    auroc = data[(data["metric"] == "auroc") & (data["method"] == "outlier_l1")]
    by_spread = auroc.groupby("task_spec")["value"].mean()
    shown = [float(text.split(" ±")[0]) for text in line(text, "`outlier_l1`")[1:]]
    specs = ["moons", "moons[spread=0.2]", "moons[spread=0.3]"]
    assert shown == [round(float(by_spread[spec]), 3) for spec in specs]
    assert "Gain, points:" in text


def test_a_sweep_of_a_method_is_sorted_by_its_value(tmp_path: Path) -> None:
    data = harness.run("outlier_iforest[n_estimators=100|25|50],random", "moons", 1, preset="smoke", out=tmp_path)
    text = sweep_tables(data)
    assert "## `outlier_iforest`: `n_estimators` on `moons`" in text
    rows = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| n_estimators")]
    assert rows == ["n_estimators=25", "n_estimators=50"]  # 100 is the default, so its spec names nothing


def test_without_a_sweep_there_is_a_sentence() -> None:
    with pytest.raises(RequestError, match="there is no sweep here"):
        sweep_tables(frame({("a", 0): cell(0.9)}))


def sized(exponents: dict[str, float], sizes: tuple[int, ...], seeds: int = 3, unit: float = 1e-5) -> pd.DataFrame:
    """Cells whose scoring takes unit · n^exponent seconds."""
    parts = []
    for n in sizes:
        for name, exponent in exponents.items():
            part = frame({(name, seed): cell(0.9) for seed in range(seeds)})
            seconds = unit * float(n) ** exponent
            parts.append(
                part.assign(
                    n_train=n,
                    task_params=f'{{"n_train": {n}}}',
                    score_seconds=seconds,
                    total_seconds=2 * seconds + 0.1,
                    key=part["key"] + str(n),
                    device_name="A GPU",
                )
            )
    return pd.concat(parts)


def test_exponents_are_the_slopes_on_logarithmic_axes() -> None:
    text = growth_table(sized({"datainf": 1.0, "lissa": 2.0, "mine": 0.5}, (1000, 2000, 8000)))
    assert line(text, "datainf")[1:4] == ["Hessian-based", "O(nvp)", "1.00 ± 0.00"]
    assert line(text, "lissa")[3] == "2.00 ± 0.00"
    assert line(text, "mine")[1:4] == ["—", "—", "—"]  # it takes less than a millisecond
    seconds = 2e-5 * np.array([1000.0, 2000, 8000]) + 0.1
    slope = np.polyfit(np.log([1000.0, 2000, 8000]), np.log(seconds), 1)[0]
    assert line(text, "datainf")[4] == f"{slope:.2f} ± 0.00"
    assert "n = 1,000, 2,000, 8,000; 3 seeds" in text
    order = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| ")][2:]
    assert order == ["datainf", "lissa", "mine"]  # the paper's first


def test_what_is_too_fast_to_time_has_no_exponent() -> None:
    text = growth_table(sized({"datainf": 1.0}, (1000, 2000, 8000), unit=1e-8))
    assert line(text, "datainf")[3] == "—"
    with pytest.raises(RequestError, match="Table 6 needs a task that was run with 3 numbers of training samples"):
        growth_table(sized({"datainf": 1.0}, (1000, 2000)))


def test_table_6_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness.run("outlier_iforest,random", "digits[n_train=200|400|1000,retrain=no]", 1, preset="smoke", out=tmp_path)
    assert main(["report", str(tmp_path), "--table", "6"]) == 0
    text = capsys.readouterr().out
    assert line(text, "Outlier Gradient (iForest)")[1:3] == ["Hessian-free", "O(np)"]
    assert math.isfinite(float(line(text, "Outlier Gradient (iForest)")[3].split(" ±")[0]))  # seconds of a busy machine
