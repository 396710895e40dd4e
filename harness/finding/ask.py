"""From what a user asks for to what `harness.finding.find` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import RequestError
from harness.finding.comparing import Contest
from harness.finding.find import find, task_of
from harness.finding.found import Found
from harness.interfaces.method import Method
from harness.interfaces.params import build, layered
from harness.interfaces.spec import format_term
from harness.selection.plugins import load_plugin
from harness.selection.registry import METHODS
from harness.selection.selections import selection

FINDER = "confident_learning[rounds=2]"
"""The method that counts label errors, and that ranks samples unless the user names another one."""

FLOOR = "random"
"""Always compared, because it shows what no knowledge gives."""


def find_errors(
    data: Any,
    labels: Any = None,
    *,
    ignore: Sequence[str] = (),
    groups: str | None = None,
    method: Any = None,
    compare: Any = None,
    seeds: int = 3,
    plugins: Sequence[str] = (),
    clean: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    **params: Any,
) -> Found:
    """Find label errors in a user's own data.

    Args:
        data, labels, ignore, groups, params: as for `harness.api.find`.
        method: a method, as `harness.run` takes it; None for `FINDER`.
        compare: a selection of methods, as `harness.run` takes it, that are compared on planted errors; None for none.
        seeds: copies per kind of planted error.
        clean: where the data will be written again; checked before anything is computed.
        say: receives what is being done.

    Raises:
        RequestError: the data cannot be read as asked, or a method is unknown or cannot score the data.
    """
    for plugin in [plugins] if isinstance(plugins, str | Path) else plugins:
        load_plugin(str(plugin))
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise RequestError(f"seeds={seeds!r} is not valid; give a whole number of at least 1")
    for name, value in (("groups", groups), ("ignore", ignore)):
        if not (value is None or isinstance(value, str | list | tuple)):
            raise RequestError(f"{name}= must be the name of a column; it is a {type(value).__name__}")
    ignore = [ignore] if isinstance(ignore, str) else [str(name) for name in ignore or ()]
    method = None if method is None else selection(METHODS, method)[0]
    compare = None if compare is None else selection(METHODS, compare)[0]
    if compare is not None and method is not None:
        raise RequestError(f"give --method {method} or --compare, which picks the method itself")
    ranking, counter = one_method(method or FINDER), one_method(FINDER)
    contest = None if compare is None else Contest(contestants(compare), seeds, say)
    what = str(data) if isinstance(data, str | Path) else f"the {type(data).__name__}"
    return find(what, task_of(data, labels, ignore, groups, **params), ranking, counter, contest, say, clean)


def one_method(spec: str) -> tuple[str, Method]:
    """A method by spec.

    Raises:
        RequestError: the spec names no method, or several.
    """
    chosen = METHODS.select(spec)
    if len(chosen) != 1:
        raise RequestError(f"--method {spec} names {len(chosen)} methods; give one, or --compare {spec}")
    ((cls, given),) = chosen
    made: Method = build(cls, layered(cls, "fair", None, given))
    made.check()
    if not made.trims:
        raise RequestError(f"--method {spec} flags nothing, so it has no suspects; give another method")
    return spec, made


def contestants(selection: str) -> dict[str, Method]:
    """The methods of a selection by spec, without controls that flag nothing, with random scores and `FINDER`.

    Raises:
        RequestError: an unknown name.
    """
    methods: dict[str, Method] = {}
    for cls, given in [*METHODS.select(FINDER), *METHODS.select(selection), *METHODS.select(FLOOR)]:
        if cls.trims:
            methods.setdefault(format_term(cls.name, dict(given)), build(cls, layered(cls, "fair", None, given)))
    for method in methods.values():
        method.check()
    return methods
