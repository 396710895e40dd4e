"""Ratios: what is usual and what is ours take turns in one run, and the table at the end compares them.

``tox -e bench`` runs the suites; seconds depend on the machine and are asserted nowhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROWS: list[tuple[str, float | None, float, float | None, float | None]] = []
"""Title, seconds of the usual way (None: it cannot run here), of ours, of the floor, and our extra MiB."""


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
        mine = self.benchmark.stats.stats.median
        usually = statistics.median(usual_seconds)
        least = statistics.median(floor_seconds) if floor_seconds else None
        self.benchmark.extra_info.update(usual=usually, ratio=usually / mine, floor=least, extra_mib=extra)
        ROWS.append((title, usually, mine, least, extra))
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
    head = f"{'':58} {'usual':>10} {'ours':>10} {'ratio':>8} {'floor':>10} {'ours/floor':>10} {'extra MiB':>9}"
    terminalreporter.write_line(head)
    for title, usual, mine, floor, extra in ROWS:
        least = f"{floor * 1e3:7.1f} ms {mine / floor:10.2f}" if floor is not None else " " * 21
        memory = "" if extra is None else f"{extra:9.0f}"
        usually = f"{usual * 1e3:7.0f} ms" if usual else " " * 10
        ratio = f"{usual / mine:7.1f}x" if usual else " " * 8
        line = f"{title:58} {usually} {mine * 1e3:7.1f} ms {ratio} {least} {memory}"
        terminalreporter.write_line(line)
