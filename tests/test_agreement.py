"""Rank correlation with a judge: by hand, on stored scores, and as a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.results.agreement import agreement
from harness.results.folder import Results
from reports.judged import judged
from tests.conftest import plug_in


def judge(view: harness.View) -> np.ndarray:
    return np.arange(view.n, dtype=float)


def reverse(view: harness.View) -> np.ndarray:
    return -judge(view)


def swapped(view: harness.View) -> np.ndarray:
    scores = judge(view)
    scores[[0, -1]] = scores[[-1, 0]]
    return scores


def silent(view: harness.View) -> np.ndarray:
    return np.zeros(view.n)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    plug_in(monkeypatch)
    for function in (judge, reverse, swapped, silent):
        harness.register_method(function)
    folder = str(tmp_path / "r")
    harness.run("judge,reverse,swapped,silent,none", "blobs", 2, preset="smoke", out=folder)
    return folder


def test_by_hand(out: str) -> None:
    frame = agreement(Results.read(out), "judge").set_index(["method", "seed"])
    n = 150
    assert frame.loc[("reverse", 0), "spearman"] == pytest.approx(-1)
    # two ranks swapped: 1 − 6 Σ d² / (n (n² − 1))
    assert frame.loc[("swapped", 1), "spearman"] == pytest.approx(1 - 6 * 2 * (n - 1) ** 2 / (n * (n**2 - 1)))
    assert np.isnan(frame.loc[("silent", 0), "spearman"])
    assert frame.loc[("reverse", 0), "common"] == 0
    assert frame.loc[("swapped", 0), "common"] == pytest.approx(14 / 15)  # 15 are flagged, one of them is now last
    assert set(frame.index.get_level_values(0)) == {"reverse", "swapped", "silent"}  # nor the judge, nor who flags none
    assert set(frame["n_train"]) == {n}


def test_the_page(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", out, "--judge", "judge"]) == 0
    lines = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {name.strip(): (correlation.strip(), common.strip()) for name, correlation, common in lines}
    assert rows["reverse"] == ("-1.00 ± 0.00", "0 ± 0")
    assert rows["silent"][0] == "— (0 of 2 seeds)"
    assert list(rows)[2:] == ["swapped", "reverse", "silent"]  # best first, below the heading and its rule
    assert main(["report", out, "--judge", "judge", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("task,task_title,task_spec,protocol,preset,seed,method,title,spearman,")


def test_judges_that_cannot_be(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="did you mean 'judge'"):
        agreement(Results.read(out), "jugde")
    harness.run("datainf[damping=1],datainf[damping=2]", "blobs", 1, preset="smoke", out=out)
    with pytest.raises(RequestError, match=r"--judge datainf means several: datainf\[damping=1.0\]"):
        agreement(Results.read(out), "datainf")
    assert len(agreement(Results.read(out), "datainf[damping=1.0]")) == 5
    with pytest.raises(SystemExit) as exit:
        main(["report", out, "--judge", "judge", "--table", "1"])
    assert exit.value.code == 2


def test_exact_influence_agrees_with_retraining_on_a_converged_model(tmp_path: Path) -> None:
    """Koh & Liang 2017, section 4.1, on a task of the product, through the report."""
    harness.run("leave_one_out,exact_hessian[damping=1e-6],random", "blobs", 3, out=tmp_path / "r")
    frame = agreement(Results.read(tmp_path / "r"), "leave_one_out")
    mean = frame.groupby("method")["spearman"].mean()
    assert mean["exact_hessian[damping=1e-06]"] > 0.9
    assert abs(mean["random"]) < 0.3
    assert "Exact Hessian `[damping=1e-06]`" in judged(frame, "leave_one_out")
