"""The project's other packages, which have common names: found where they belong, whatever lies in the way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from harness.errors import RequestError

PACKAGES = ("methods", "tasks", "reports")
ROOT = Path(__file__).resolve().parents[1]


def claim(names: Sequence[str] = PACKAGES) -> None:
    """Import the project's packages from beside this one where a folder of the same name would be taken for them.

    A folder without ``__init__.py`` in the working directory hides a package that is installed in editable mode.
    Another package or module of the name is left alone: `own` tells.
    """
    for name in names:
        if name in sys.modules:
            continue
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.origin is not None:
            continue  # ours, or another's, as Python finds it
        place = ROOT / name / "__init__.py"
        ours = spec_from_file_location(name, place, submodule_search_locations=[str(place.parent)])
        if ours is None or ours.loader is None or not place.is_file():
            continue
        module = module_from_spec(ours)
        sys.modules[name] = module
        ours.loader.exec_module(module)


def own(name: str) -> ModuleType:
    """One of the project's packages, imported.

    Raises:
        RequestError: another package or module of that name is found first.
    """
    try:
        package = import_module(name)
    except Exception as error:  # another project's module may raise anything
        spec = PathFinder.find_spec(name)
        place = name if spec is None else spec.origin
        raise RequestError(
            f"{place} stands in the way of the harness's own package {name!r}; rename it, or run from another folder "
            f"({type(error).__name__}: {error})"
        ) from error
    file = getattr(package, "__file__", None)
    if file is None or Path(file).resolve().parents[1] != ROOT:
        raise RequestError(
            f"{file or package.__name__} stands in the way of the harness's own package {package.__name__!r}; rename "
            "it, or run from another folder"
        )
    return package
