"""Steps that are done once, and whose results are kept as they come."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from harness.interfaces.clock import timed

TRIES = 2
"""A step that was begun so often one after another and did not end, because its process was killed, is left out."""


class Steps:
    """Results by step in ``<folder>/<call>.jsonl``: a line when a step begins, and a line with its result.

    Args:
        folder: made if it is missing.
        call: the name of the file.
        device: torch's name.
        minutes: after so many, no step begins.
    """

    def __init__(self, folder: Path, call: str, device: str, minutes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.device, self.path = folder, device, folder / f"{call}.jsonl"
        self.deadline = time.monotonic() + 60 * minutes
        self.begun: dict[str, int] = {}
        self.done: dict[str, Mapping[str, Any]] = {}
        self.left: list[str] = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            entry = json.loads(line)
            if "begun" in entry:
                self.begun[entry["step"]] = self.begun.get(entry["step"], 0) + 1
                continue
            self.begun.pop(entry["step"], None)
            if "error" not in entry:
                self.done[entry["step"]] = entry

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def __call__(self, step: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """Do the step, unless it is done, was cut off too often, or time is up. An error is its result."""
        if step in self.done or self.begun.get(step, 0) >= TRIES:
            return
        if self.seconds_left <= 0:
            self.left.append(step)
            return
        self._write({"step": step, "begun": _now()})
        result: dict[str, Any] = {}
        try:
            with timed(self.device) as watch:
                result = dict(work())
            self.done[step] = result
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        self._write({"step": step, "step_seconds": round(watch.seconds, 3), **self._machine(), **result})
        shown = {name: value for name, value in result.items() if name != "traceback"}
        print(f"{step}: {json.dumps(shown)[:600]}", flush=True)

    def end(self) -> int:
        """Say what is left; 1 if something is."""
        if self.left:
            print(f"no time was left for {', '.join(self.left)}: give the same command again")
        return int(bool(self.left))

    def _machine(self) -> dict[str, str]:
        name = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else "CPU"
        return {"device": name, "torch": torch.__version__, "ended": _now()}

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
