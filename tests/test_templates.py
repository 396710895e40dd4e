"""``new``: the packages it writes work as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.cli import main
from harness.templates import HERE, new

ROOT = Path(__file__).parents[1]


def run(command: list[str], folder: Path) -> str:
    paths = [str(folder), str(ROOT)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(folder: Path, name: str, kind: str, target: str) -> None:
    """What ``pip install`` leaves for `importlib.metadata`."""
    info = folder / f"{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[harness.{kind}s]\n{name} = {target}\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["method", "task"])
def test_a_new_package_passes_its_tests_and_its_gate(kind: str, tmp_path: Path) -> None:
    name = f"my_{kind}"
    folder = tmp_path / name
    written = [path.relative_to(folder).as_posix() for path in new(kind, name, str(folder))]
    assert sorted(written) == sorted(
        [".github/workflows/ci.yml", ".gitignore", "README.md", f"{name}.py", "pyproject.toml", f"tests/test_{name}.py"]
    )
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    point = project["project"]["entry-points"][f"harness.{kind}s"]
    assert point == {name: f"{name}:My{kind.capitalize()}"}
    installed(folder, name, kind, point[name])
    assert "failed" not in run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)
    harness = [sys.executable, "-m", "harness"]
    assert "failed" not in run([*harness, "check", name], folder)
    steps = [line.split("run: ", 1)[1] for line in (folder / ".github/workflows/ci.yml").read_text().splitlines()
             if "- run:" in line]  # fmt: skip
    assert [step.split()[0] for step in steps] == ["pip", "pip", "pytest", "python", "if"]
    command = steps[3].split()[3:]
    if kind == "task":
        command[command.index("all")] = "self_confidence,random"
    run([*harness, *command], folder)
    run(["bash", "-c", steps[4].replace("python ", f"{sys.executable} ")], folder)
    for line in (folder / "README.md").read_text().splitlines():  # the gate as the page has it
        if "--out gate" in line or "baseline write" in line:
            run([*harness, *line.split("#")[0].split()[3:]], folder)
    if kind == "task":
        run([*harness, "baseline", "write", "gate", "baseline.json"], folder)
    assert "No worse" in run(["bash", "-c", steps[4].replace("python ", f"{sys.executable} ")], folder)


def test_it_is_well_formed(tmp_path: Path) -> None:
    for kind in ("method", "task"):
        new(kind, f"my_{kind}", str(tmp_path / kind))
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,W,I,B,UP",
             "--config", 'lint.isort.known-third-party=["harness"]', str(tmp_path / kind)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lissa", "the method name 'lissa' is taken"),
        ("My_Detector", "is not a usable name; give a lower-case word such as my_method"),
        ("my-detector", "is not a usable name"),
        ("class", "is not a usable name"),
        ("queue", "there is a Python module 'queue' already"),
        ("numpy", "there is a Python module 'numpy' already"),
        ("détecteur", "is not a usable name"),
        ("samples", "would name a class Samples, as the harness has one"),
        ("is_there", "is-there is there already; give another name"),
    ],
)
def test_names_that_cannot_be(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "is-there").mkdir()
    assert main(["new", "method", name]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["is-there"]


def test_templates_are_packaged() -> None:
    """Every template is among the files that a wheel takes along."""
    import fnmatch

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["harness"]
    for path in HERE.glob("*/*.txt"):
        relative = path.relative_to(ROOT / "harness").as_posix()
        assert any(fnmatch.fnmatch(relative, pattern) for pattern in patterns)
