"""Plug-ins named on the command line: a ``.py`` file or a module, or one class or function in it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from harness.errors import RequestError, did_you_mean
from harness.selection.adoption import is_task
from harness.selection.registry import METHODS, TASKS

PREFIX = "harness_plugin_"

_BY_NAME: set[type] = set()
"""Classes that were adopted one by one, by ``FILE.py:NAME``."""


def load_plugin(source: str) -> list[type]:
    """Import a plug-in and register its methods and tasks; see `harness.selection.adoption` for the rules.

    Args:
        source: ``FILE.py`` or a module's name. Either can be followed by ``:NAME`` for one class or function.

    Returns:
        The method and task classes of the plug-in.

    Raises:
        RequestError: no such file, module or name; no method or task in the plug-in; or a failed import, with the
            reason.
    """
    METHODS.classes(), TASKS.classes()  # built-in names first, so that a clash is the plug-in's fault
    where, name = split_source(source)
    try:
        module = _from_file(where) if where.endswith(".py") else importlib.import_module(where)
        return _named(module, name) if name else _all(module)
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from error
    except SyntaxError as error:
        raise RequestError(
            f"{source} cannot be imported: {error.msg} (line {error.lineno} of {error.filename})"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RequestError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error


def _all(module: ModuleType) -> list[type]:
    brought = METHODS.of_module(module) + TASKS.of_module(module)
    if _BY_NAME.issuperset(brought):  # nothing in it is decorated
        METHODS.adopt(module)
        TASKS.adopt(module)
        brought = METHODS.of_module(module) + TASKS.of_module(module)
    if not brought:
        raise RequestError(
            "it brings no method and no task; a method is a class with score(self, view), or a function whose first "
            "parameter is called view"
        )
    return brought


def _named(module: ModuleType, name: str) -> list[type]:
    thing = getattr(module, name, None)
    if thing is None:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise RequestError(f"it has no {name!r}{did_you_mean(name, public)}")
    registry = TASKS if is_task(thing) else METHODS
    known = [cls for cls in registry.of_module(module) if thing in (cls, getattr(cls, "original", None))]
    if not known:
        before = set(registry.classes())
        registry.adopt(thing)
        known = [cls for key, cls in registry.classes().items() if key not in before]
        _BY_NAME.update(known)
    return known


def load_only(sources: Sequence[str]) -> None:
    """Load plug-ins in a process that may have served other runs. Plug-in files of other runs are removed first."""
    names = {_module_name(Path(split_source(source)[0])) for source in sources}
    for registry in (METHODS, TASKS):
        for cls in list(registry.classes().values()):
            if cls.__module__.startswith(PREFIX) and cls.__module__ not in names:
                registry.forget(cls.__module__)
    for source in sources:
        load_plugin(source)


def split_source(source: str) -> tuple[str, str]:
    """A plug-in's file or module, and the name after the colon, or an empty string."""
    where, colon, name = source.rpartition(":")
    return (where, name) if colon and name.isidentifier() else (source, "")


def absolute(source: str) -> str:
    """A plug-in file by its full path, for processes that run elsewhere; a module by its name."""
    where, name = split_source(source)
    if where.endswith(".py") and os.path.isfile(where):
        return os.path.abspath(where) + (f":{name}" if name else "")
    return source


def source_of(cls: type) -> str:
    """The plug-in ``FILE.py:NAME`` that a class comes from; empty for a class of an importable module."""
    original = getattr(cls, "original", cls)
    module = sys.modules.get(original.__module__)
    if module is None or not original.__module__.startswith(PREFIX):
        return ""
    return f"{module.__file__}:{original.__name__}"


def _module_name(path: Path) -> str:
    """A module name for a plug-in file. The path's hash is included, since file names can be equal."""
    return f"{PREFIX}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def _from_file(source: str) -> ModuleType:
    path = Path(source)
    if not path.is_file():
        raise RequestError("there is no such file")
    name = _module_name(path)
    content = path.read_bytes()
    known = sys.modules.get(name)
    if known is not None and (known.__file__, vars(known)["__source__"]) == (str(path.resolve()), content):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    METHODS.forget(name)
    TASKS.forget(name)
    sys.modules[name] = module
    module.__source__ = content  # type: ignore[attr-defined]
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
