"""The house rules that a machine can check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "methods", "tasks", "reports")


def test_imports_run_one_way() -> None:
    """The import-linter contracts of pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


MAY_NAME = (
    "cli.py",
    "run.py",
    "api.py",
    "table_layouts.py",
    "paper_tables.py",
    "published.py",
    "flagged.py",
    "planes.py",
    "style.py",
    "controls.py",
)
"""Examples in help texts, the paper's own tables and figures (the paper chose their rows), and a control."""


def test_the_harness_knows_no_method_or_task_by_name() -> None:
    from harness.selection.registry import METHODS, TASKS

    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "reports").glob("*.py")]:
        text = path.read_text()
        for name in (*METHODS.classes(), *TASKS.classes()):
            if name in ("none", "random"):
                continue
            uses = [line for line in text.splitlines() if f'"{name}"' in line and "``" not in line]
            assert not uses or path.name in MAY_NAME, f"{path.name}: {uses}"


def test_files_stay_small() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            lines = len(path.read_text().splitlines())
            assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines: is it still one idea?"
