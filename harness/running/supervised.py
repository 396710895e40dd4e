"""Gives work to a separate process, which is ended when a stage takes too long, together with all that it started."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from harness.running.events import Begin
from harness.running.fork_server import process_context

LONGEST = 1e6
"""Seconds that the operating system can be asked to wait at once."""
READING = threading.Lock()
"""Held while exit codes are read. Each can be read once, and starting a process reads those of all that have ended."""
ATTEMPTS = 5
"""Times that a process is tried to be started."""


@dataclass(frozen=True)
class Done:
    """The last message about a piece of work."""

    healthy: bool = True
    """Whether the process can be given more work."""
    error: str = ""
    """The exception that ended the work, if one did."""


class Supervised:
    """A process that is given work, piece by piece, and sends messages.

    Args:
        target: a function that runs in the process. Its arguments are ``arguments`` and a connection, from which it
            receives work, and to which it sends messages and then `Done`.
        timeout: seconds for one cell's stage; None sets no limit. Starting Python and importing torch is not counted.

    Attributes:
        status, error: how the last work ended, known after the last of `messages`: ``timeout``, ``out_of_memory`` or
            ``failed``, and the reason. Both are empty if the process did the work.
        healthy: whether the process can be given more work.
    """

    def __init__(self, target: Callable[..., None], arguments: tuple[object, ...], timeout: float | None) -> None:
        self.timeout = timeout
        self.status = self.error = ""
        self.healthy = True
        self._ended = False
        context = process_context()
        self._pipe, theirs = context.Pipe()
        _may_have_children()
        self._process = context.Process(target=target, args=(*arguments, theirs), daemon=False)
        with READING, _without_main():
            _start(self._process)
        theirs.close()

    def messages(self, work: object) -> Iterator[Any]:
        """Give the process work, and yield what it sends. If it ends, it ended in the last stage that began."""
        stage = "start"
        limit, deadline = math.inf, math.inf
        self.status, self.healthy = "failed", False
        try:
            self._pipe.send(work)
            while True:
                if not _within(self._pipe, deadline):
                    self.status, self.error = "timeout", f"{stage} took longer than {limit:g} s"
                    return
                message = self._pipe.recv()
                if isinstance(message, Done):
                    self.status = "failed" if message.error else ""
                    self.error = f"{message.error} during {stage}" if message.error else ""
                    self.healthy = message.healthy
                    return
                if isinstance(message, Begin):
                    stage = message.stage
                    if self.timeout is not None:
                        limit = self.timeout * (len(message.cells) if stage in ("retrain", "truth") else 1)
                        deadline = time.monotonic() + limit
                yield message
        except (EOFError, ConnectionResetError, BrokenPipeError):
            code = self._exit_code()
            self.error = f"the process ended during {stage} with exit code {code}"
            if code == -signal.SIGKILL:
                self.status = "out_of_memory"
                self.error = f"the process was killed during {stage}, probably for lack of memory"
        except Exception as error:  # what the process sent is no message: foreign code wrote into the pipe
            self.error = f"the process sent what cannot be read during {stage}: {type(error).__name__}"

    def end(self) -> None:
        """End the process and what it started, and wait for that."""
        self.kill()
        self._exit_code()
        self._ended = True
        self._pipe.close()

    def kill(self) -> None:
        """Let the process and what it started end at once: they are in a group of their own."""
        if self._ended:  # by now, its number may be another process's
            return
        if self._process.pid is not None and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with READING:
            if self._process.is_alive():
                self._process.kill()

    def _exit_code(self) -> int | None:
        wait([self._process.sentinel])
        with READING:
            self._process.join()
            code: int | None = self._process.exitcode
        return code


def _start(process: Any) -> None:
    """Start a process. Foreign code can end the fork server. A new fork server takes a moment to start."""
    for attempt in range(ATTEMPTS):
        try:
            process.start()
            return
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.2 * 2**attempt)


def _may_have_children() -> None:
    """Let a daemonic process start others, as Dask's workers are; `Supervised.end` leaves none of them behind."""
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def _within(connection: Connection, deadline: float) -> bool:
    """Wait for something to read; False if nothing comes before the deadline."""
    while True:
        left = max(0.0, deadline - time.monotonic())
        if connection.poll(min(left, LONGEST)):
            return True
        if left <= LONGEST:
            return False


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a new process from running the main script again. The script would start further processes.

    The new process does not need the script. Cells are sent as names, and methods and tasks that a script defines
    were refused before.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
