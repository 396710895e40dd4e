"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.records.store import FAILURES

if TYPE_CHECKING:
    from harness.running.events import Event
    from harness.selection.plan import Cell


class Progress:
    """Listens to a run's events and prints the running stage, each failure, and the estimated time left.

    Args:
        quiet: print nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.total = 0
        self.done = 0
        self._start = time.monotonic()
        self._quiet = quiet
        self._left: Counter[str] = Counter()
        self._bar: Any = None

    @contextmanager
    def of(self, cells: Sequence[Cell]) -> Iterator[None]:
        """Show progress through these cells."""
        self.total, self._start = len(cells), time.monotonic()
        self._left = Counter(map(_group, cells))
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, unit="cell", dynamic_ncols=True, file=sys.stderr)
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()

    def __call__(self, event: Event) -> None:
        from harness.running.events import Begin

        if isinstance(event, Begin):
            first = event.cells[0]
            doing = {
                "train": "training the base model",
                "score": f"scoring by {first.method_spec}",
                "retrain": "retraining without the flagged samples",
            }
            self._show(f"{_group(first)}: {doing[event.stage]}")
            return
        self.done += 1
        if self._bar is not None:
            self._bar.update()
        if event.record.status in FAILURES and not self._quiet:
            self._line(f"{event.record.status}: {_group(event.cell)}: {event.cell.method_spec}: {event.record.error}")
        if self._bar is None and not self._quiet:
            self._plain(event)

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text)

    def _plain(self, event: Any) -> None:
        """Print one line when all cells of a (task, seed) are finished."""
        group = _group(event.cell)
        self._left[group] -= 1
        if self._left[group] == 0:
            elapsed = time.monotonic() - self._start
            left = elapsed / self.done * (self.total - self.done)
            self._line(f"[{self.done}/{self.total}] {group} · {elapsed:.0f} s, about {left:.0f} s left")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)


def _group(cell: Cell) -> str:
    return f"{cell.task_spec} seed {cell.seed}"
