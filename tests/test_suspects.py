"""The command `suspects`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import main
from tests.array_files import data, save


def test_suspects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = data()
    names = np.array([f"digit {k}" for k in range(10)])
    arrays |= {key: names[arrays[key]] for key in arrays if key.endswith("labels")}
    path, out = save(tmp_path, **arrays), str(tmp_path / "r")
    harness.run("self_confidence,outlier_l2", [f"arrays[path={path}]", "moons"], 3, preset="smoke", out=out)
    listing = ["suspects", out, "--method", "self_confidence", "--task", "arrays"]
    assert main([*listing, "--top", "20", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("The 20 most suspicious of 300 samples of arrays[path=")
    assert "seeds 0, 1, 2" in captured.err
    frame = pd.read_csv(io.StringIO(captured.out))
    assert list(frame.columns) == ["rank", "index", "suspicion", "score", "flagged", "given", "true"]
    assert (frame["given"] != frame["true"]).mean() > 0.6  # 0.1 by chance
    assert frame["suspicion"].is_monotonic_decreasing
    np.testing.assert_array_equal(frame["given"], arrays["labels"][frame["index"]])
    # one seed alone, and a task whose seeds have samples of their own
    assert main([*listing, "--seed", "1", "--top", "3"]) == 0
    assert "seed 1\n" in capsys.readouterr().err
    assert main(["suspects", out, "--method", "outlier_l2", "--task", "moons", "--output", str(tmp_path / "s")]) == 0
    assert len((tmp_path / "s").read_text().splitlines()) == 101
    assert "seed 0\n" in capsys.readouterr().err
    # without the data the list is still a list
    Path(path).unlink()
    assert main([*listing, "--top", "5"]) == 0
    captured = capsys.readouterr()
    assert "labels are left out: arrays[path=" in captured.err
    assert captured.out.splitlines()[0].split() == ["rank", "index", "suspicion", "score", "flagged"]


def test_suspects_of_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r")
    harness.run("outlier_l2,datainf,datainf[damping=1]", "moons,blobs", 1, preset="smoke", out=out)
    for options, sentence in (
        (["--method", "outlier_l3"], "(did you mean 'outlier_l2'?)"),
        (["--method", "outlier_l2"], "holds several such results"),
        (["--method", "outlier_l2", "--task", "moon"], "(did you mean 'moons'?)"),
        (["--method", "outlier_l2", "--task", "moons", "--seed", "4"], "has no such result of seed 4; it has 0"),
        (["--method", "outlier_l2", "--top", "0"], "--top 0 is not valid"),
    ):
        assert main(["suspects", out, *options]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["suspects", out, "--method", "datainf", "--task", "moons"]) == 0  # the label decides, not the name
    assert "of moons by datainf, protocol" in capsys.readouterr().err
    assert main(["suspects", out, "--method", "datainf[damping=1.0]", "--task", "moons"]) == 0
