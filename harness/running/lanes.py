"""Runs several groups at a time, each in a process of its own: one thread looks after each process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue

from harness.running.events import Event
from harness.running.isolated import isolated
from harness.running.options import Options, devices
from harness.running.supervised import Supervised
from harness.selection.plan import Group


def in_lanes(groups: Sequence[Group], options: Options) -> Iterator[Event]:
    """The events of all groups as they happen. A lane takes the next group when it has finished one.

    Lanes share the devices evenly. If this generator is closed, all processes end.
    """
    waiting = iter(groups)  # the next of a list's iterator is had by one thread at a time
    heard: SimpleQueue[Event | BaseException | None] = SimpleQueue()
    closed = threading.Event()
    processes: list[Supervised] = []
    known = devices(options)

    def started(process: Supervised) -> None:
        processes.append(process)
        if closed.is_set():
            process.kill()

    def lane(device: str) -> None:
        try:
            for event in isolated(waiting, device, options, started, closed.is_set):
                heard.put(event)
            heard.put(None)
        except BaseException as error:
            heard.put(error)

    lanes = [threading.Thread(target=lane, args=(known[i % len(known)],), daemon=True) for i in range(options.jobs)]
    for thread in lanes:
        thread.start()
    try:
        ended = 0
        while ended < len(lanes):
            event = heard.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                ended += 1
            else:
                yield event
    finally:
        closed.set()
        for process in list(processes):
            process.kill()
        for thread in lanes:
            thread.join()
