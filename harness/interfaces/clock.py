"""Wall-clock time, measured with the device synchronised, and peak memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Stopwatch:
    """Seconds measured by `timed`."""

    seconds: float = 0.0


def synchronise(device: str) -> None:
    """Wait for all work queued on a CUDA device. On a CPU, do nothing."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


@contextmanager
def timed(device: str) -> Iterator[Stopwatch]:
    """Time a block, with the device synchronised before and after."""
    watch = Stopwatch()
    synchronise(device)
    start = time.perf_counter()
    try:
        yield watch
    finally:
        synchronise(device)
        watch.seconds = time.perf_counter() - start


class PeakMemory:
    """Peak memory since construction, in MiB: allocated on a CUDA device, or the process's resident set on a CPU.

    Where the operating system cannot reset the peak of the resident set, the CPU value covers the whole process.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                _CLEAR_REFS.write_text("5")

    def mib(self) -> float:
        if self.device.startswith("cuda"):
            import torch

            return float(torch.cuda.max_memory_allocated(self.device)) / 2**20
        try:
            line = next(text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
            return int(line.split()[1]) / 1024
        except (OSError, StopIteration):
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
