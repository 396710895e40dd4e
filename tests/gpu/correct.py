"""Whether every method and kind of task gives the CPU's results: the tests that have a part for GPUs."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.gpu.steps import Steps

PARTS = {
    "scores": ("tests/test_devices.py", "own_tensors"),
    "tasks": ("tests/test_devices.py", "another_device"),
    "conformance": ("tests/test_conformance.py", "devices"),
    "gradients": ("tests/test_per_sample.py", ""),
    "the rest of the device tests": ("tests/test_devices.py", "not own_tensors and not another_device"),
}


def run(steps: Steps, small: bool) -> None:
    for name, (file, chosen) in PARTS.items():
        if not small or name == "the rest of the device tests":
            steps(name, lambda file=file, chosen=chosen, name=name: _tested(steps, name, file, chosen))


def _tested(steps: Steps, name: str, file: str, chosen: str) -> Mapping[str, Any]:
    """Counts by outcome, and what failed, of some tests."""
    report = steps.folder / f"{name.replace(' ', '-')}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, f"--junitxml={report}"]
    log = steps.folder / f"{name.replace(' ', '-')}.log"
    with log.open("w") as out:
        subprocess.run(
            [*command, *(["-k", chosen] if chosen else [])],
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=max(1.0, steps.seconds_left),
            check=False,
        )
    outcomes, failed = Counter[str](), []
    for case in ET.parse(report).iter("testcase"):
        outcome = next((part.tag for part in case if part.tag in ("failure", "error", "skipped")), "passed")
        outcomes[outcome] += 1
        if outcome in ("failure", "error"):
            failed.append(str(case.get("name")))
    return {**outcomes, "failed": failed}
