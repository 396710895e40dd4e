"""Runs groups where their worker stands: in this process or, if the options ask for it, in one that can be ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from harness.running.options import Options
from harness.selection.plan import Group

if TYPE_CHECKING:
    from harness.running.events import Event


def run(groups: Iterable[Group], device: str, options: Options) -> Iterator[Event]:
    """The events of some groups. Unless this process ends, each cell finishes with a record."""
    if options.supervised:
        from harness.running.isolated import isolated

        yield from isolated(groups, device, options)
        return
    from harness.running.group import run_group

    for members in groups:
        yield from run_group(members, device)
