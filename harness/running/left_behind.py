"""What foreign code leaves behind in its process: global state, replaced functions, threads, processes, changed inputs.

Global state is put back. Where something else is left, the process is no longer used.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.interfaces.view import View
from harness.randomness import left_as_found

WATCHED = ("numpy", "torch", "scipy", "sklearn", "cleanlab", "pandas", "harness", "methods", "tasks", "builtins")
"""Packages whose functions and classes are watched."""
MOST_NAMED = 3
"""Replaced functions that are named: a function that one package replaces in another has several names."""


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "deleted"


def _set_folder(path: str) -> None:
    with suppress(OSError):
        os.chdir(path)


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _streams() -> tuple[Any, ...]:
    return sys.stdout, sys.stderr, sys.stdout.closed, sys.stderr.closed


def _silent() -> Any:
    return open(os.devnull, "w", encoding="utf-8")


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr = (_silent() if stream.closed else stream for stream in streams[:2])


def _set_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # which tells the interpreter that what it remembers of filters is out of date
    warnings.filters[:] = filters  # type: ignore[index]


STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the working folder": (_folder, _set_folder),
    "the environment": (lambda: dict(os.environ), _set_environment),
    "sys.path": (lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
    "standard output": (_streams, _set_streams),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "whether gradients are recorded": (torch.is_grad_enabled, lambda value: torch.set_grad_enabled(value)),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "numpy's error state": (np.geterr, lambda value: np.seterr(**value)),
    "the filters of warnings": (lambda: list(warnings.filters), _set_filters),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "what signals do": (
        lambda: {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        lambda value: [signal.signal(number, handler) for number, handler in value.items()],
    ),
}
"""Global state that can be put back: what messages call it, how it is read, and how it is set."""


class Watch:
    """Watches this process for a block of code.

    Args:
        inputs: what the code is given, by the names that messages use.

    Attributes:
        changed: the names of the inputs that the code changed in place.
        restored: global state that the code changed, and that was put back.
        remaining: what was left behind besides. The process should not be used any more.
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = {name: (value, digest(value)) for name, value in inputs.items()}
        self.changed: list[str] = []
        self.restored: list[str] = []
        self.remaining: list[str] = []

    def __enter__(self) -> Watch:
        self._state = {name: read() for name, (read, _) in STATE.items()}
        self._functions, self._threads, self._children = _functions(), set(threading.enumerate()), children()
        self._random = left_as_found()
        self._moved = self._random.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._random.__exit__(None, None, None)
        self.restored = [f"the random state of {name}" for name in self._moved]
        for name, (read, restore) in STATE.items():
            if read() != self._state[name]:
                restore(self._state[name])
                self.restored.append(name)
        now = _functions()
        replaced = sorted(name for name, value in self._functions.items() if now.get(name) is not value)
        self.remaining = [f"{name} is replaced" for name in replaced[:MOST_NAMED]]
        threads = len(set(threading.enumerate()) - self._threads)
        processes = len(children() - self._children)
        self.remaining += [f"running threads: {threads}"] * bool(threads)
        self.remaining += [f"running processes: {processes}"] * bool(processes)
        self.changed = [name for name, (value, before) in self._inputs.items() if digest(value) != before]


def children() -> set[int]:
    """The processes that this one has started, or has inherited from those; known on Linux only."""
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return found


def digest(value: Any) -> str:
    """A hash of all arrays, tensors and modules that can be reached from a value."""
    made = hashlib.blake2b(digest_size=16)
    for array in _arrays(value, set()):
        made.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return made.hexdigest()


def _arrays(value: Any, seen: set[int]) -> Iterator[np.ndarray]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided:
            flat = value.detach().cpu().reshape(-1)
            if flat.numel():
                flat = flat if flat.stride(0) == 1 else flat.clone(memory_format=torch.contiguous_format)
                yield flat.view(torch.uint8).numpy()
    elif isinstance(value, np.ndarray):
        if value.dtype.kind != "O":
            yield value.reshape(-1)
    elif isinstance(value, torch.nn.Module):
        yield from _arrays([*value.parameters(), *value.buffers()], seen)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()), seen)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _arrays(entry, seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _arrays(getattr(value, field.name, None), seen)


def _functions() -> dict[str, Any]:
    """The functions and classes of the watched packages' loaded modules, and of classes that all use, by name."""
    places = [(name, vars(module)) for name, module in sys.modules.items() if name.partition(".")[0] in WATCHED]
    places += [(f"{cls.__module__}.{cls.__name__}", dict(vars(cls))) for cls in (torch.Tensor, torch.nn.Module, View)]
    return {
        f"{place}.{name}": value for place, values in places for name, value in list(values.items()) if callable(value)
    }
