"""What a long stage tells of itself, such as the epoch of a training, to whoever shows the progress of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("_listener", default=None)


def tell(text: str) -> None:
    """Say where a stage is, ``epoch 3 of 10``. Nothing happens if nobody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(text)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Call the listener with every text that is told meanwhile in this process and context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
