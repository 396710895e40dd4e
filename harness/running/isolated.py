"""Runs groups in a process of their own, which is used again as long as it is healthy.

Where a group has methods of plug-ins, they come last, and the process is watched while they score. If one leaves
something behind, the process ends, and another one goes on with the scores that are known so far. After a group of a
plug-in's task, the process ends in any case.
"""

from __future__ import annotations

import ctypes
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from harness.errors import note
from harness.running.events import Begin, Event, Finished, failure, new_record
from harness.running.group import run_watched
from harness.running.left_behind import children
from harness.running.measuring import Measured
from harness.running.options import Options, prepare
from harness.running.supervised import Done, Supervised
from harness.selection.plan import Group, received

GIB = 2**30
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""From Linux's ``prctl.h``."""
SHARED = (
    (multiprocessing.forkserver._forkserver, "_forkserver_alive_fd"),
    (multiprocessing.resource_tracker._resource_tracker, "_fd"),
)
"""Pipes to processes that all share. A child that needs such a process starts its own."""


@dataclass(frozen=True)
class Surroundings:
    """What a process takes over from the one that starts it. The fork server has that of another moment."""

    folder: str
    environment: dict[str, str]
    warning_filters: list[Any]
    """Importing cleanlab, for example, silences all warnings of the fork server."""
    notes: bool
    """Whether warnings are shown as the command line shows them."""

    @classmethod
    def here(cls) -> Surroundings:
        return cls(os.getcwd(), dict(os.environ), list(warnings.filters), warnings.formatwarning is note)

    def take_over(self) -> None:
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        warnings.resetwarnings()
        warnings.filters[:] = self.warning_filters  # type: ignore[index]
        if self.notes:
            warnings.formatwarning = note


def isolated(
    groups: Iterable[Group],
    device: str,
    options: Options,
    started: Callable[[Supervised], None] = lambda process: None,
    closed: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Run groups in a process. If it ends early, the cells of its last stage fail, and the others run in another one.

    The events are those of `run_group`.

    Args:
        started: is given each process.
        closed: whether to end. A process that is killed then is no fault of a cell.
    """
    process: Supervised | None = None
    try:
        for members in groups:
            left = {cell.slot: cell for cell in members.cells}
            known: dict[str, Measured] = {}
            while left:
                if process is None:
                    process = Supervised(_serve, (device, options, Surroundings.here()), options.timeout)
                    started(process)
                at_fault, before = set(left), (len(left), len(known))
                work = [cell.sent for cell in left.values()], {slot: known[slot] for slot in left if slot in known}
                for message in process.messages(work):
                    if isinstance(message, Measured):
                        known |= dict.fromkeys(message.slots, message)
                        continue
                    if isinstance(message, Begin):
                        at_fault = {cell.slot for cell in message.cells}
                    else:
                        left.pop(message.cell.slot, None)
                    yield message
                if closed():
                    return
                if process.status:
                    if (len(left), len(known)) == before and at_fault.isdisjoint(left):
                        at_fault = set(left)  # another process would end as this one did
                    for slot in [slot for slot in left if slot in at_fault]:
                        cell = left.pop(slot)
                        yield Finished(cell, new_record(cell, device, process.status, process.error), {})
                if process.healthy:
                    assert not left, f"{len(left)} cells of {members.name} ended without a record"
                else:
                    process.end()
                    process = None
    finally:
        if process is not None:
            process.end()


def _serve(device: str, options: Options, surroundings: Surroundings, pipe: Connection) -> None:
    """Run the groups that come, send what happens, and `Done` after each group."""
    surroundings.take_over()
    _depend(device, options)
    prepared = False
    while True:
        try:
            sent, known = pipe.recv()
        except (EOFError, OSError):  # the parent has ended
            return
        try:
            if not prepared:
                prepare(options)
                prepared = True
            members = Group(tuple(received(cell) for cell in sent))
            healthy = not members.is_foreign  # what a plug-in's task leaves behind is not looked for: all of it goes
            for message in run_watched(members, device, known):
                if isinstance(message, Measured):
                    healthy = False
                pipe.send(message)
            last = Done(healthy)
        except BaseException as error:  # foreign code may raise KeyboardInterrupt, too; ours is not sent here
            last = Done(False, failure(error)[1])
        if not last.healthy:
            for child in children():
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
        with suppress(OSError):  # without a pipe, this process can only end
            pipe.send(last)
            continue
        return


def _depend(device: str, options: Options) -> None:
    """Put this process into a group of its own, limit its memory, and let it end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears an interruption, and ends this process
    if sys.platform == "win32":
        return
    import resource

    os.setsid()
    for owner, name in SHARED:
        number = getattr(owner, name, None)
        if number is not None:
            os.close(number)
            setattr(owner, name, None)
    if options.memory is not None and not device.startswith("cuda"):
        limit = int(options.memory * GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # processes that lose their parent are seen as our children
