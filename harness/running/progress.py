"""Progress on standard error: a bar on a terminal, plain lines elsewhere, and how long the run will still take."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import without_controls
from harness.interfaces.telling import listening
from harness.records.store import FAILURES
from harness.running.estimate import Estimate

if TYPE_CHECKING:
    from harness.records.store import Record
    from harness.running.events import Event
    from harness.selection.plan import Cell

HEARTBEAT = 30.0
"""Seconds after which a log file gets a line, if no other line was written."""

DOING = {
    "train": "training the base model",
    "truth": "training models on parts of the samples",
    "retrain": "retraining without some samples",
}


class Progress:
    """Listens to a run's events and prints the running stage, each failure, and the estimated time left.

    On a terminal this is a bar. Elsewhere it is one line per (task, seed) that is done, and one line every 30 seconds.

    Args:
        quiet: print nothing.
        heartbeat: seconds between lines where nothing is done meanwhile.
    """

    def __init__(self, quiet: bool = False, heartbeat: float = HEARTBEAT) -> None:
        self.total = 0
        self.done = 0
        self._quiet, self._heartbeat = quiet, heartbeat
        self._start = self._last = time.monotonic()
        self._left: Counter[str] = Counter()
        self._stage = self._inside = ""
        self._bar: Any = None
        self._estimate: Estimate | None = None
        self._writing = threading.Lock()

    @contextmanager
    def of(self, groups: Iterable[Sequence[Cell]], earlier: Iterable[Record] = (), workers: int = 1) -> Iterator[None]:
        """Show progress through these cells.

        Args:
            groups: the cells, by what runs together.
            earlier: records of the same folder, from which the time is estimated until stages have run.
            workers: how many groups run at once.
        """
        groups = [list(cells) for cells in groups]
        self.total = sum(map(len, groups))
        self._start = self._last = time.monotonic()
        self._left = Counter(_seed_of(cell) for cells in groups for cell in cells)
        stop = threading.Event()
        beating = threading.Thread(target=self._beat, args=[stop], daemon=True)
        if not self._quiet:
            self._estimate = Estimate(groups, earlier, workers)
            if sys.stderr.isatty():
                from tqdm import tqdm

                form = "{percentage:3.0f} % {bar:8} {n_fmt}/{total_fmt} cells, {elapsed}{postfix} · {desc}"
                self._bar = tqdm(total=self.total, dynamic_ncols=True, file=sys.stderr, bar_format=form)
            else:
                beating.start()
        try:
            with listening(self._told):
                yield
        finally:
            stop.set()
            if self._bar is not None:
                self._bar.close()

    def __call__(self, event: Event) -> None:
        from harness.running.events import Begin

        if self._quiet:
            self.done += not isinstance(event, Begin)
            return
        assert self._estimate is not None
        if isinstance(event, Begin):
            first = event.cells[0]
            self._estimate.begin(event.stage, event.cells)
            self._stage = f"{_seed_of(first)}: {DOING.get(event.stage, f'scoring by {first.method_spec}')}"
            self._inside = ""
            if self._bar is not None:
                self._bar.set_description_str(self._stage)
        else:
            self.done += 1
            self._estimate.finished(event.cell)
            if event.record.status in FAILURES:
                where = f"{_seed_of(event.cell)}: {event.cell.method_spec}"
                self._line(f"{event.record.status}: {where}: {event.record.error}")
            self._counted(event.cell)
        if self._bar is not None and time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            self._bar.set_postfix_str(self._time_left())

    def _told(self, text: str) -> None:
        """What the running stage says of itself."""
        self._inside = f", {text}"
        if self._bar is not None:
            self._bar.set_description_str(self._stage + self._inside)

    def _counted(self, cell: Cell) -> None:
        """Advance the bar, or print one line when all cells of a (task, seed) are finished."""
        if self._bar is not None:
            self._bar.update()
            return
        seed = _seed_of(cell)
        self._left[seed] -= 1
        if self._left[seed] == 0:
            self._line(f"[{self.done}/{self.total}] {seed} · {self._times()}")

    def _beat(self, stop: threading.Event) -> None:
        """Say what is running where nothing was said for a while, so that a log file shows that the run lives."""
        while not stop.wait(max(0.0, self._last + self._heartbeat - time.monotonic())):
            if time.monotonic() - self._last >= self._heartbeat:
                self._line(f"[{self.done}/{self.total}] {self._stage or 'starting'}{self._inside} · {self._times()}")

    def _times(self) -> str:
        left = self._time_left()
        return f"{in_words(time.monotonic() - self._start)}{f', {left}' if left else ''}"

    def _time_left(self) -> str:
        """What the stages let expect; in a run of several workers, which do not tell their stages, the share done."""
        left = self._estimate.left() if self._estimate is not None else None
        if left is None and self.done:
            left = (time.monotonic() - self._start) / self.done * (self.total - self.done)
        return "" if left is None or self.done == self.total else f"about {in_words(left)} left"

    def _line(self, text: str) -> None:
        text = without_controls(text)
        with self._writing:
            self._last = time.monotonic()
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _seed_of(cell: Cell) -> str:
    return f"{cell.task_spec} seed {cell.seed}"
