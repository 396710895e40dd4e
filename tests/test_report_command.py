"""The command `report`: formats, files and closed pipes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.commands.printing import plain_cells
from tests.command_line import ROOT, call
from tests.runs import run


def test_a_report_to_a_link_keeps_the_link(capsys: pytest.CaptureFixture[str], both: Path, tmp_path: Path) -> None:
    (tmp_path / "target.md").write_text("old")
    (tmp_path / "link.md").symlink_to(tmp_path / "target.md")
    assert call(capsys, "report", str(both), "--output", str(tmp_path / "link.md"))[0] == 0
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "target.md").read_text().startswith("# Results")
    assert call(capsys, "report", str(both), "--output", "/dev/null")[0] == 0
    assert not Path("/dev/null").is_file()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder with both protocols."""
    out = tmp_path_factory.mktemp("both") / "out"
    for protocol in ("fair", "paper"):
        harness.run("outlier_*,self_datainf,lissa[iterations=3],none,leave_one_out[reference=validation]", "moons", 2,
                    preset="smoke", protocol=protocol, out=out)  # fmt: skip
    return out


def test_report_in_markdown(capsys: pytest.CaptureFixture[str], both: Path) -> None:
    code, out, _ = call(capsys, "report", str(both))
    assert code == 0
    assert "## Half moons: `moons`, protocol fair, preset smoke" in out
    assert "## What the protocol alone changes: `moons`, preset smoke" in out
    assert "250 training samples; 20 with a wrong label; 25 flagged and removed" in out
    assert re.search(r"`self_datainf`.*: in 2 of 2 seeds, up to \d+ % of the scores are equal up to rounding", out)
    assert re.search(r"`lissa\[iterations=3\]`: not converged in 2 of 2 solves", out)
    assert "Table 1 of Chhabra" in out
    published = [
        line for line in out.splitlines() if line.startswith("| Outlier Gradient (iForest)") and "96.0" in line
    ]
    assert len(published) >= 2, "published numbers stand beside both protocols, and beside the live seeds of one"
    lissa = [line for line in out.splitlines() if line.startswith("| LiSSA `[iterations=3]`")]
    assert lissa
    assert all("82.0 |" not in line.split("labels, gradients")[-1] for line in lissa), (
        "another LiSSA than the published"
    )
    assert "skipped in 2 of 2 seeds: there is no reference set 'validation' here" in out
    for line in out.splitlines():
        if line.startswith("|"):
            assert line.count("|") == line.count("|", 0), line


def test_report_as_tidy_table(capsys: pytest.CaptureFixture[str], both: Path) -> None:
    from harness.results.table import COLUMNS

    code, out, _ = call(capsys, "report", str(both), "--format", "csv")
    frame = pd.read_csv(io.StringIO(out), keep_default_na=False, na_values=[""])
    assert code == 0
    assert list(frame.columns) == list(COLUMNS)
    contract = (
        "key task task_params method method_params seed protocol preset status error metric value higher_is_better "
        "train_seconds extract_seconds score_seconds retrain_seconds peak_memory_mib n_train n_flagged n_noisy uses "
        "device device_name torch python commit utc schema"
    )
    assert set(contract.split()) <= set(frame.columns)
    values = frame.dropna(subset=["value"])
    assert values[values["metric"] != "lift_100"]["value"].between(-1, 1).all()
    assert {"detection_accuracy", "precision", "recall", "auroc", "average_precision", "accuracy"} <= set(
        values["metric"]
    )


def test_report_to_a_file(capsys: pytest.CaptureFixture[str], both: Path, tmp_path: Path) -> None:
    _, printed, _ = call(capsys, "report", str(both))
    code, out, _ = call(capsys, "report", str(both), "--output", str(tmp_path / "report.md"))
    assert (code, out) == (0, f"{tmp_path / 'report.md'}\n")
    assert (tmp_path / "report.md").read_text() == printed
    code, _, err = call(capsys, "report", str(both), "--output", str(tmp_path / "no" / "report.md"))
    assert (code, err.count("\n")) == (2, 1)


def test_module_and_closed_pipe(both: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m harness report {both} --format csv | head -1",
        cwd=ROOT,
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("key,task")
    assert done.stderr == ""


def test_a_report_of_some_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "o")
    code, out, err = call(capsys, "report", str(tmp_path / "o"), "--methods", "outlier_*,random")
    assert code == 0, err
    assert "Outlier Gradient (L2)" in out
    assert "Self-Confidence" not in out
    code, _, err = call(capsys, "report", str(tmp_path / "o"), "--methods", "datainf")
    assert code == 2
    assert "--methods datainf leaves nothing of" in err


def test_csv_holds_no_formula() -> None:
    frame = pd.DataFrame({"error": ["=1+1", "@x", "-2 is not valid", "fine", None], "value": [-1.0, 2, 3, 4, 5]})
    safe = plain_cells(frame)
    assert list(safe["error"])[:4] == ["'=1+1", "'@x", "'-2 is not valid", "fine"]
    assert safe["error"].isna()[4]
    assert list(safe["value"]) == [-1.0, 2, 3, 4, 5]
