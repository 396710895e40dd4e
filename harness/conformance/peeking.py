"""Whether a method finds the truth: through the frames and objects of the process, a task's data, or files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.conformance.check import CheckFailure
from harness.conformance.problem import CheckTask
from harness.data_files import data_folder
from harness.errors import Unsupported
from harness.events import Finished
from harness.method_base import Method
from harness.plan import Cell, CellSpec, Group
from harness.registry import TASKS
from harness.runner import run_group
from harness.versions import source_commit

CODE = {".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib", ".pth", ".typed", ".nbi", ".nbc", ".lock", ".zip"}
MEND = "score from the view alone; a clean set is view.reference('validation'), and uses must say so"

METADATA = re.compile(r"(dist|egg)-info")
"""What packages are installed with, which libraries look up when they are imported."""

_opened: list[str] = []
_watching = False
_first_time = False


def peeks(method: Method) -> None:
    """Run the method in the real runner, twice, with everything alike but for what is said to be the truth.

    Raises:
        CheckFailure: the scores follow the truth, or the method loads a task or reads files while it scores.
        Unsupported: the method cannot score the problem.
    """
    for name, cls in TASKS.classes().items():
        if not any(
            vars(base).get("load") is cls.load and base.__module__ == cls.load.__module__ for base in cls.__mro__
        ):
            raise CheckFailure(f"something has put its own function in the place of {name}'s load", MEND)
    source_commit()  # the runner asks git, once
    with _tasks_watched() as loaded:
        with _files_watched(first_time=True) as opened:
            _run(method, turned=False)
            early = list(opened)
        with _files_watched() as opened:
            scores = _run(method, turned=False)
            opened[:0] = early
    if loaded:
        raise CheckFailure(f"it loads the data of {', '.join(sorted(set(loaded)))} while it scores", MEND)
    if opened:
        raise CheckFailure(f"it reads {opened[0]} while it scores", MEND)
    if not np.array_equal(scores, _run(method, turned=True), equal_nan=True):
        raise CheckFailure(
            "its scores change with what the task keeps apart as the true labels, and with nothing else changed", MEND
        )


def _run(method: Method, turned: bool) -> np.ndarray:
    spec = CellSpec(CheckTask.name, (("turned", turned),), method.name, (), 0, "fair", "fast")
    for event in run_group(Group((Cell(spec, CheckTask(turned=turned), method),))):
        if isinstance(event, Finished):
            if event.record.status == "skipped":
                raise Unsupported(event.record.error)
            if event.arrays and "scores" in event.arrays:
                return event.arrays["scores"]
            raise CheckFailure(f"in the runner it ends with: {event.record.error}", "see the error")
    raise AssertionError("a cell ended without a record")


@contextmanager
def _tasks_watched() -> Iterator[list[str]]:
    """Collects the names of registered tasks whose data is loaded."""
    loaded: list[str] = []
    patched: list[tuple[type, Any]] = []

    def watched(name: str, load: Any) -> Any:
        def with_note(self: Any, seed: int) -> Any:
            loaded.append(name)
            return load(self, seed)

        return with_note

    for name, cls in TASKS.classes().items():
        own = cls.__dict__.get("load")
        patched.append((cls, own))
        cls.load = watched(name, cls.load)
    try:
        yield loaded
    finally:
        for cls, own in patched:
            if own is None:
                del cls.load
            else:
                cls.load = own


@contextmanager
def _files_watched(first_time: bool = False) -> Iterator[list[str]]:
    """Collects files that are opened for reading and hold no code.

    Args:
        first_time: those alone that lie in the working directory or the data folder, and no processes: libraries
            look up settings and ask for the machine's cores once.
    """
    global _first_time, _watching
    _first_time = first_time
    if not getattr(sys, "_harness_watches_files", False):
        sys.addaudithook(_note)  # it stays for the process and does nothing but in here
        sys._harness_watches_files = True  # type: ignore[attr-defined]
    _opened.clear()
    _watching = True
    try:
        yield _opened
    finally:
        _watching = False


_first_time = False


def _note(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system") and not _first_time:
        _opened.append(f"another process ({args[0] if event != 'os.system' else 'a shell'})")
    if event != "open" or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path, (mode, flags) = Path(os.fsdecode(args[0])), args[1:3]
    reads = "r" in str(mode) if mode is not None else flags & os.O_ACCMODE == os.O_RDONLY
    system = str(path).startswith(("/proc/", "/sys/", "/dev/"))
    if not reads or system or path.suffix in CODE or METADATA.search(str(path)) or path.is_dir():
        return
    if _first_time and not any(path.resolve().is_relative_to(place.resolve()) for place in (Path.cwd(), data_folder())):
        return
    _opened.append(str(path))
