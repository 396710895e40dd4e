"""Runs whose records come back as one small file; a run that is cut off goes on from it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.gpu.steps import Steps

RECORDS = Path(__file__).parents[2] / "docs" / "results" / "probe" / "records.py"
PAPER = "none,random,self_confidence,outlier_l1,outlier_l2,outlier_iforest,datainf"


def _options(methods: str, task: str, preset: str, seeds: int, protocol: str) -> list[str]:
    given = {"methods": methods, "tasks": task, "preset": preset, "seeds": str(seeds), "protocol": protocol}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


STUDIES: Mapping[str, Mapping[str, list[str]]] = {
    "cifar10n": {
        protocol: _options("all", "cifar10n[noise=aggregate|random|worst]", "fast", 3, protocol)
        for protocol in ("fair", "paper")
    },
    "paper": {"paper": _options(PAPER, "cifar10n[noise=worst]", "paper", 1, "paper")},
}
SMALL = _options("random,self_confidence", "moons", "smoke", 1, "fair")
STOPPING = 20.0
"""Seconds that a run gets to end, and its records to be packed."""


def run(steps: Steps, small: bool, name: str, data: Path | None) -> None:
    for part, options in ({"small": SMALL} if small else STUDIES[name]).items():
        steps(part, lambda options=options: _study(steps, name, options, data))


def _study(steps: Steps, name: str, options: list[str], data: Path | None) -> Mapping[str, Any]:
    """Run until it is done or time is up, and pack what is stored.

    Raises:
        TimeoutError: time was up first; the step is done at the next call.
    """
    packed, store = steps.folder / f"{name}.jsonl.gz", steps.folder.parent / f"{steps.folder.name}-{name}"
    if packed.exists() and not store.exists():
        subprocess.run([sys.executable, str(RECORDS), "unpack", str(packed), str(store)], check=True)
    command = [sys.executable, "-m", "harness", "run", "--out", str(store), "--device", steps.device, *options]
    command += ["--data-dir", str(data)] if data is not None else []
    with (steps.folder / f"{name}.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=max(1.0, steps.seconds_left - STOPPING))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # finished cells are kept
            code = process.wait(timeout=STOPPING)
    subprocess.run([sys.executable, str(RECORDS), "pack", str(store), str(packed)], check=True)
    if code == 128 + signal.SIGTERM:
        raise TimeoutError("time was up; the same command goes on")
    return {"exit_code": code, "records": packed.name}
