"""Where new processes come from: copies of one that has imported torch and the harness, and has never run anything.

Such a copy starts in a few hundredths of a second, and holds nothing that another cell has left behind.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

IMPORTED = [
    "harness.running.isolated",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "cleanlab.filter",
]
"""What takes seconds to import, and most runs need."""


def process_context() -> Any:
    """The fork server's context where there is one; elsewhere new processes start from nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def start_early() -> None:
    """Let the fork server import while this process does something else."""
    if "HARNESS_CHUNK_MIB" in os.environ:  # its value is checked when it is imported, and this process says so first
        return
    if process_context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
