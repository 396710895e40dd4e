"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.store import FAILURES

if TYPE_CHECKING:
    from harness.runner import Event


class Progress:
    """Listens to a run's events and tells what is running, what failed, and how long the rest may take.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.total = 0
        self.done = 0
        self._start = time.monotonic()
        self._quiet = quiet
        self._group = ""
        self._bar: Any = None

    @contextmanager
    def of(self, total: int) -> Iterator[None]:
        """Show progress through ``total`` cells."""
        self.total, self._start = total, time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="cell", dynamic_ncols=True, file=sys.stderr)
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()

    def __call__(self, event: Event) -> None:
        from harness.runner import Begin

        if isinstance(event, Begin):
            first = event.cells[0]
            what = first.method_label if event.stage == "score" else f"{len(event.cells)} cells"
            if event.stage == "train":
                what = "base model"
            self._show(f"{first.task_label} seed {first.seed}: {event.stage} {what}")
            return
        self.done += 1
        if self._bar is not None:
            self._bar.update()
        if event.record.status in FAILURES and not self._quiet:
            self._line(f"{event.record.status}: {_name(event)}: {event.record.error}")
        elif self._bar is None and not self._quiet:
            self._plain(event)

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text)

    def _plain(self, event: Any) -> None:
        """One line when a (task, seed) is through, rather than one a cell."""
        group = f"{event.cell.task_label} seed {event.cell.seed}"
        if group != self._group or self.done == self.total:
            self._group = group
            elapsed = time.monotonic() - self._start
            left = elapsed / self.done * (self.total - self.done)
            self._line(f"[{self.done}/{self.total}] {group} · {elapsed:.0f} s, about {left:.0f} s left")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)


def _name(event: Any) -> str:
    return f"{event.cell.task_label} × {event.cell.method_label} seed {event.cell.seed}"
