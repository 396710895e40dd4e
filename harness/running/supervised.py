"""Runs cells in a separate process, which is ended when a stage takes too long."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.running.events import Event

LONGEST = 1e6
"""Seconds that the operating system can be asked to wait at once."""


class Supervised:
    """A process that runs cells and sends their events.

    Args:
        target: a function that runs in the process. Its arguments are ``arguments`` and a connection. ``target``
            sends its events to the connection, then None.
        timeout: seconds for one cell's stage; None sets no limit. Starting Python and importing torch is not counted.

    Attributes:
        status, error: how the process ended, known after the last of `events`: ``timeout``, ``out_of_memory`` or
            ``failed``, and the reason. Both are empty if the process sent all events.
    """

    def __init__(self, target: Callable[..., None], arguments: tuple[object, ...], timeout: float | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.timeout = timeout
        self.status = self.error = ""
        self._events, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=target, args=(*arguments, theirs), daemon=False)
        with _without_main():
            self._process.start()
        theirs.close()

    def events(self) -> Iterator[Event]:
        """The events that the process sends until it ends. The process ended in the last stage that began."""
        from harness.running.events import Begin

        stage = "start"
        limit, deadline = math.inf, math.inf
        try:
            while True:
                if not _within(self._events, deadline):
                    self.status, self.error = "timeout", f"{stage} took longer than {limit:g} s"
                    return
                event = self._events.recv()
                if event is None:
                    return
                if isinstance(event, Begin):
                    stage = event.stage
                    if self.timeout is not None:
                        limit = self.timeout * (len(event.cells) if stage == "retrain" else 1)
                        deadline = time.monotonic() + limit
                yield event
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.status, self.error = "failed", f"the process ended during {stage} with exit code {code}"
            if code == -9:
                self.status = "out_of_memory"
                self.error = f"the process was killed during {stage}, probably for lack of memory"
        finally:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()
            self._events.close()


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
