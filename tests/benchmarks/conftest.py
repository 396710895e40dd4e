"""Ratios: what is usual and what is ours take turns in one run, and the table at the end compares them.

``tox -e bench`` runs the suites; seconds depend on the machine and are asserted nowhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch


@dataclass
class Row:
    """Seconds of the best round of ours, the usual way (None: it cannot run here) and a floor; a ratio of medians."""

    title: str
    ours: float
    usual: float | None = None
    median_ratio: float | None = None
    floor: float | None = None
    extra_mib: float | None = None

    def __str__(self) -> str:
        cells = [f"{self.title:55}", f"{self.ours * 1e3:9.1f}"]
        cells += [f"{self.usual * 1e3:8.0f} {self.usual / self.ours:7.1f}x" if self.usual else " " * 17]
        cells += [f"{self.median_ratio:7.1f}x" if self.median_ratio else " " * 8]
        cells += [f"{self.floor * 1e3:7.1f} {self.ours / self.floor:5.2f}" if self.floor else " " * 13]
        cells += [f"{self.extra_mib:6.0f}" if self.extra_mib is not None else ""]
        return " ".join(cells)


ROWS: list[Row] = []


class Versus:
    """Times ``ours`` by pytest-benchmark; before each round of it, the usual way and a floor take their turn."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self.full = not benchmark.disabled
        """Whether this is a measurement; otherwise small sizes will do to see that everything runs and agrees."""

    def __call__(
        self,
        title: str,
        ours: Callable[[], Any],
        usual: Callable[[], Any],
        floor: Callable[[], Any] | None = None,
        rounds: int = 5,
    ) -> Any:
        """Measure and remember for the table; returns what ``ours`` returns."""
        usual_seconds: list[float] = []
        floor_seconds: list[float] = []

        def others() -> None:
            usual_seconds.append(seconds(usual))
            if floor is not None:
                floor_seconds.append(seconds(floor))

        self.benchmark.group = title
        if not self.full:
            return ours()
        extra = extra_mib(ours)  # warms up, too
        result = self.benchmark.pedantic(ours, setup=others, rounds=rounds)
        stats = self.benchmark.stats.stats
        medians = statistics.median(usual_seconds) / stats.median
        usually, mine, least = min(usual_seconds), stats.min, min(floor_seconds, default=None)
        self.benchmark.extra_info.update(usual=usually, ratio=usually / mine, floor=least, extra_mib=extra)
        ROWS.append(Row(title, mine, usually, medians, least, extra))
        return result


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def extra_mib(action: Callable[[], Any]) -> float | None:
    """Peak memory of the process while it runs, above what it holds before, in MiB; None where Linux does not tell."""
    try:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        action()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        action()
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


@pytest.fixture
def versus(benchmark: Any) -> Iterator[Versus]:
    before = torch.get_num_threads()
    yield Versus(benchmark)
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section(f"ours against the usual way, {torch.get_num_threads()} CPU threads")
    titles = f"{'':55} {'ours, ms':>9} {'usual':>8} {'ratio':>8} {'medians':>8} {'floor':>7} {'times':>5} {'+MiB':>6}"
    terminalreporter.write_line(titles)
    for row in ROWS:
        terminalreporter.write_line(str(row))
    terminalreporter.write_line("Best rounds; 'medians' is the ratio of the median rounds.")
