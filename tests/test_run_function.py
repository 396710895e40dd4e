"""`harness.run` with functions, classes and instances, from scripts and notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import RequestError
from harness.selection.registry import METHODS
from tests.runs import run
from tests.selections import Plain

SCRIPT = """
import harness

def mine(view):
    return -view.probs[range(view.n), view.labels]

frame = harness.run("self_confidence,random", "moons", seeds=2, preset="smoke", out={out!r}, timeout=120)
print(sorted(set(frame["status"])), len(frame["key"].unique()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "stdin", "command", "notebook"])
def test_a_time_limit_needs_no_main_guard(tmp_path: Path, way: str) -> None:
    """Its processes leave the running script alone."""
    script = SCRIPT.format(out=str(tmp_path / "r"))
    (tmp_path / "script.py").write_text(script)
    python = [sys.executable]
    arguments = {
        "script": [*python, "script.py"],
        "stdin": [*python, "-"],
        "command": [*python, "-c", script],
        "notebook": [*python, "-c", "import code, sys; code.InteractiveInterpreter().runcode(sys.stdin.read())"],
    }
    done = subprocess.run(arguments[way], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["['ok']", "4"], done.stderr
    assert "Traceback" not in done.stderr


def my_own(view: Any, power: int = 1) -> Any:
    return (1 - view.probs[range(view.n), view.labels]) ** power


def test_functions_classes_and_instances_may_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    method, task = harness.method("datainf", damping=0.5), harness.task("moons", preset="smoke", steps=300)

    by_name = harness.run("datainf[damping=0.5]", "moons[steps=300]", 1, preset="smoke", out=tmp_path / "a")
    by_object = harness.run(method, task, 1, preset="smoke", out=tmp_path / "b")
    several = harness.run([my_own, "random", method], [task, "blobs"], 1, preset="smoke", out=tmp_path / "c")

    assert set(by_object["slot"]) == set(by_name["slot"])
    assert set(several["method"]) == {"my_own", "random", "datainf"}
    assert set(several["task"]) == {"moons", "blobs"}
    assert set(several["status"]) == {"ok"}
    with pytest.raises(RequestError, match="cannot be a method"):
        harness.run([3], "moons", 1, out=tmp_path / "d")
    with pytest.raises(RequestError, match="cannot be a task"):
        harness.run("none", [my_own], 1, out=tmp_path / "d")


def scorer(k: int) -> Any:
    def made(view: Any) -> Any:
        return view.labels * k

    made.name = f"scorer_{k}"  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": [scorer(1), scorer(2)], "timeout": 60}, "defined inside a function"),
        ({"methods": Plain(5)}, "cannot be a method"),
        ({"backend": "x"}, "unknown backend 'x'"),
        ({"preset": None}, "--preset None is not valid"),
        ({"device": None}, "--device None is not valid"),
        ({"device": "cuda:²"}, "is not a device"),
        ({"timeout": "60"}, "--timeout '60' is not valid"),
        ({"jobs": "2"}, "--jobs '2' is not valid"),
        ({"jobs": 1.5}, "--jobs 1.5 is not valid"),
        ({"seeds": [0.5, 1.5]}, "--seeds"),
        ({"plugins": [Path("absent.py")]}, "no such file"),
        ({"methods": "outlier[detector=sklearn.cluster:KMeans]"}, "no detector of outliers"),
        ({"methods": "outlier[detector=sklearn.pipeline:Pipeline]"}, "detector=Pipeline needs steps"),
    ],
)
def test_what_run_cannot_do_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    with pytest.raises(RequestError, match=sentence):
        harness.run(**{"methods": "none", "tasks": "moons", "seeds": 1, "out": tmp_path / "r", **options})
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_functions_of_a_module_travel_to_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    frame = harness.run([my_own, "random"], "moons", 2, preset="smoke", out=tmp_path, timeout=120)
    assert set(frame["status"]) == {"ok"}
    assert set(frame["method"]) == {"my_own", "random"}


def test_the_commands_in_python(tmp_path: Path) -> None:
    """`report`, `suspects` and `compare` give what the commands of these names print."""
    out = tmp_path / "o"
    run(out, "outlier_l2,self_confidence", seeds=2)
    text = harness.report(out, methods="outlier_*")
    assert "Outlier Gradient (L2)" in text
    assert "Self-Confidence" not in text
    assert text._repr_markdown_() == text
    frame = harness.suspects(out, "outlier_l2", seed=0, top=7)
    assert len(frame) == 7
    assert frame["suspicion"].is_monotonic_decreasing
    comparison = harness.compare(out, out, ["auroc:-0.02"])
    assert comparison.exit_code == 0
    with pytest.raises(RequestError, match="top=0"):
        harness.suspects(out, "outlier_l2", top=0)
