"""The gate as commands: baseline files, comparisons in every format, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.cli import main
from harness.gate.baseline import read_baseline, write_text
from harness.gate.compare import compare
from harness.gate.measured import measured
from reports.gate import as_junit, as_markdown
from tests.conftest import plug_in
from tests.gate_rows import RULES, A, rows

DETECTOR = """
import numpy as np

def mine(view):
    return -view.probs[np.arange(view.n), view.{labels}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plug_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(DETECTOR.format(labels="labels"))
    run("before")
    return tmp_path


def run(out: str, tasks: str = "moons", methods: str = "mine,random") -> None:
    assert main(["run", "--plugin", "mine.py", "--methods", methods, "--tasks", tasks, "--preset", "smoke",
                 "--seeds", "3", "--out", out]) == 0  # fmt: skip


def test_a_build_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline, a small bug, an unrelated change, other tasks."""
    assert main(["baseline", "write", "before", "baseline.json"]) == 0
    capsys.readouterr()
    run("same")
    assert main(["compare", "baseline.json", "same"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No worse: 6 same."

    Path("mine.py").write_text(DETECTOR.format(labels="labels").replace("return -", "faster = True\n    return -"))
    run("unrelated")
    assert main(["compare", "baseline.json", "unrelated", "--plugin", "mine.py"]) == 0

    Path("mine.py").write_text(DETECTOR.format(labels="predictions"))
    run("bug")
    capsys.readouterr()
    assert main(["compare", "baseline.json", "bug"]) == 1
    out = capsys.readouterr().out
    worst = out.splitlines()[0].split()
    assert worst[:4] == ["worse", "moons", "smoke", "mine"]
    assert "random" not in out

    run("others", tasks="blobs")
    capsys.readouterr()
    assert main(["compare", "baseline.json", "others"]) == 2
    assert "Nothing comparable: no cell in common." in capsys.readouterr().out
    assert main(["compare", "before", "bug", "--methods", "random"]) == 0
    assert main(["compare", "before", "bug", "--methods", "all,-mine"]) == 0
    assert main(["compare", "before", "bug", "--methods", "mi*"]) == 1


def test_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(DETECTOR.format(labels="labels").replace("return -", "return "))
    run("bug")
    capsys.readouterr()
    assert main(["compare", "before", "bug", "--format", "junit", "--output", "gate.xml"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Worse: ")
    suite = ElementTree.parse("gate.xml").getroot()[0]
    cases = {case.get("name"): case for case in suite}
    assert (suite.get("tests"), len(cases)) == ("6", 6)
    assert cases["mine auroc"].find("failure") is not None
    assert cases["random auroc"].find("failure") is None
    assert suite.get("failures") == str(len(suite.findall("*/failure")))
    assert suite.get("skipped") == str(len(suite.findall("*/skipped")))
    assert main(["compare", "before", "bug", "--format", "md"]) == 1
    assert "| **worse** " in capsys.readouterr().out


def test_formats_escape(tmp_path: Path) -> None:
    found = compare(rows({"auroc": A}, method="a|b<&>"), rows({"auroc": A - 0.5}, method="a|b<&>"), RULES)
    assert ElementTree.fromstring(as_junit(found))[0][0].get("name") == "a|b<&> auroc"
    assert r"a\|b<&>" in as_markdown(found)


def test_a_baseline_keeps_what_matters(folder: Path) -> None:
    main(["baseline", "write", "before", "b.json"])
    text = Path("b.json").read_text()
    content = json.loads(text)
    assert content["made"]["torch"]
    assert len(text) < 8000
    assert '"auroc": {"0": ' in text  # one line per metric
    ours, theirs = read_baseline("b.json"), measured("before")
    keys = ["task", "method", "metric", "seed"]
    both = ours.merge(theirs, on=keys)
    assert len(both) == len(ours) == len(theirs)
    quality = ~both["metric"].str.contains("_seconds|_mib")
    assert (both["value_x"] - both["value_y"])[quality].abs().max() < 1e-6
    assert write_text(ours, content["made"]) == text  # reading and writing changes nothing


def test_update_replaces_and_keeps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["baseline", "write", "before", "b.json"])
    run("more", tasks="blobs", methods="mine")
    assert main(["baseline", "update", "more", "b.json"]) == 0
    assert main(["compare", "before", "b.json"]) == 0
    assert main(["compare", "more", "b.json"]) == 0
    capsys.readouterr()
    assert main(["baseline", "update", "more", "b.json"]) == 0
    assert "b.json: 3 cells of more" in capsys.readouterr().err
    capsys.readouterr()
    before = Path("b.json").read_text()
    assert main(["baseline", "write", "more", "b.json"]) == 2
    assert "b.json is there already; `baseline update` changes it" in capsys.readouterr().err
    assert main(["baseline", "update", "more", "absent.json"]) == 2
    assert Path("b.json").read_text() == before


def test_stale_results_make_no_baseline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(DETECTOR.format(labels="predictions"))
    assert main(["baseline", "write", "before", "b.json", "--plugin", "mine.py"]) == 2
    assert "3 cells of before come from other code or data than this" in capsys.readouterr().err
    assert not Path("b.json").exists()
    assert main(["compare", "before", "before", "--plugin", "mine.py"]) == 0
    assert "3 cells of before come from other code or data than this" in capsys.readouterr().err
    assert main(["compare", "before", "before", "--plugin", "mine.py", "--strict"]) == 1


def test_a_changed_default_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the name that was asked for, whatever the code at hand now takes as its default."""
    text = (
        DETECTOR.format(labels="labels")
        .replace("(view)", "(view, sign: float = 1.0)")
        .replace("return -", "return -sign * ")
    )
    Path("mine.py").write_text(text)
    run("first")
    assert main(["baseline", "write", "first", "first.json", "--plugin", "mine.py"]) == 0
    Path("mine.py").write_text(text.replace("= 1.0", "= -1.0"))
    run("second")
    for base in ("first", "first.json"):
        assert main(["compare", base, "second", "--plugin", "mine.py"]) == 1
    # what was asked for by its default's value is the same thing
    Path("mine.py").write_text(text)
    run("explicit", methods="mine[sign=1],random")
    assert main(["compare", "first.json", "explicit"]) == 0
    # two sets of parameters under one name are told apart by nobody
    run("first", methods="mine")
    Path("mine.py").write_text(text.replace("= 1.0", "= -1.0"))
    run("first", methods="mine")
    capsys.readouterr()
    assert main(["compare", "first.json", "first", "--methods", "mine"]) == 2
    assert "several sets of parameters under this name" in capsys.readouterr().out
    assert main(["baseline", "write", "first", "both.json", "--plugin", "mine.py"]) == 2
    assert not Path("both.json").exists()


def test_what_is_gone_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = rows({"auroc": A, "accuracy": A})
    found = compare(base, rows({"accuracy": A}), RULES)
    assert [(line.metric, line.verdict) for line in found.lines] == [("auroc", "not compared"), ("accuracy", "same")]
    assert (found.exit_code, found.missing) == (2, ["moons × mine (auroc)"])
    found = compare(base, rows({"auroc": A[:1] - 0.01, "accuracy": A[:1]}), RULES)
    assert "4 of BASE's 5 seeds are not in NEW" in found.lines[0].note
    assert (found.exit_code, found.missing) == (2, ["moons × mine (seed 1, 2, 3, 4)"])
    run("less", methods="random")
    assert main(["compare", "before", "less"]) == 2
    assert "Incomplete: 3 same, 1 missing." in capsys.readouterr().out
    assert main(["compare", "before", "less", "--allow-missing"]) == 0
    assert main(["compare", "before", "less", "--format", "junit", "--output", "gate.xml"]) == 2
    assert len(ElementTree.parse("gate.xml").getroot().findall("*/*/error")) == 1
    run("others", tasks="blobs")
    assert main(["compare", "before", "others", "--format", "junit", "--output", "gate.xml"]) == 2
    assert ElementTree.parse("gate.xml").getroot()[0].get("errors") == "3"
    assert main(["compare", "before", "less", "--methods", "mine2"]) == 2
    assert "--methods mine2 leaves nothing of before; it has mine, random" in capsys.readouterr().err


def test_failures_make_no_baseline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("def mine(view):\n    raise ValueError('\\x1b[31mred')\n")
    command = [
        "run",
        "--plugin",
        "mine.py",
        "--methods",
        "mine,random",
        "--preset",
        "smoke",
        "--seeds",
        "3",
        "--out",
        "bad",
    ]
    assert main(command) == 1
    assert main(["baseline", "write", "bad", "b.json"]) == 2
    assert "3 cells of bad failed (mine on moons, seed 0: ValueError" in capsys.readouterr().err
    assert main(["compare", "before", "bad", "--format", "junit", "--output", "gate.xml"]) == 1
    assert len(ElementTree.parse("gate.xml").getroot().findall("*/*/failure")) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "neither a results folder"),
        ('{"a": 1}', "neither a results folder"),
        ('{"influence-harness-baseline": 1', "not a readable baseline"),
        ('{"influence-harness-baseline": 1, "sections": [{"task": "moons"}]}', "not a readable baseline"),
        ('{"influence-harness-baseline": 1, "sections": 3}', "not a readable baseline"),
        ('{"influence-harness-baseline": 2, "sections": []}', "of version 2; this harness reads 1"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    assert main(["compare", str(path), str(path)]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "absent"), str(path)]) == 2
