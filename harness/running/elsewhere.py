"""What other processes need to run cells: methods and tasks that they can import, and the plug-ins that bring them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import RequestError
from harness.running.options import Options
from harness.selection.plan import Cell
from harness.selection.plugins import source_of, split_source


def with_sources(cells: Sequence[Cell], options: Options) -> Options:
    """The options with the plug-ins of all cells: this process may have loaded some of them for an earlier request."""
    given = {split_source(plugin)[0] for plugin in options.plugins}
    sources = {source_of(type(made)): None for cell in cells for made in (cell.task, cell.method)}
    more = [source for source in sources if source and split_source(source)[0] not in given]
    return replace(options, plugins=(*options.plugins, *more))


def check_importable(cells: Sequence[Cell], options: Options) -> None:
    """Check that other processes can import all methods and tasks, if the options ask for other processes.

    Raises:
        RequestError: a method or task is defined where no other process can import it.
    """
    if options.jobs == 1 and not options.supervised and options.backend == "loky":
        return
    for made in (made for cell in cells for made in (cell.task, cell.method)):
        original = getattr(type(made), "original", type(made))
        if original.__module__ == "__main__" or "<locals>" in original.__qualname__:
            where = "in the running script" if original.__module__ == "__main__" else "inside a function"
            raise RequestError(
                f"{made.name} is defined {where}, from where other processes cannot import it; "
                "move it to a file and give that as a plug-in, or use one job and no limits"
            )
