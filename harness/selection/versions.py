"""Code versions, which tell whether a stored result was computed by the current code.

A result depends on the code of its method, the code of its task, and the machinery that every result uses. A result
of a method that uses gradients also depends on the gradient code. A record holds one hash for each of these codes.
A changed constant therefore makes only those results stale that can depend on the constant.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

MACHINERY = (
    "harness.selection.adoption",
    "harness.data.arrays",
    "harness.interfaces.checked",
    "harness.interfaces.dynamics",
    "harness.interfaces.extraction",
    "harness.interfaces.flags",
    "harness.interfaces.neighbours",
    "harness.interfaces.trained",
    "harness.interfaces.lds_task",
    "harness.running.attributing",
    "harness.running.base_models",
    "harness.interfaces.method",
    "harness.interfaces.outputs",
    "harness.randomness",
    "harness.running.group",
    "harness.running.measuring",
    "harness.running.repair",
    "harness.running.scoring",
    "harness.seeds",
    "harness.running.services",
    "harness.running.subset_losses",
    "harness.interfaces.split",
    "harness.interfaces.task",
    "harness.running.trimming",
    "harness.interfaces.view",
)
"""Modules of `harness` that can change a number of any result."""

GRADIENTS = tuple(sorted(f"harness.gradients.{path.stem}" for path in (ROOT / "harness" / "gradients").glob("*.py")))
"""All modules of `harness.gradients`. They can change numbers of methods that use gradients, and no other numbers."""

BUILT_IN = ("methods", "tasks")
"""The project's packages whose modules are followed wherever they are imported."""


def code_version(cls: type) -> str:
    """``<declared version>-<hash>`` of a class.

    The hash covers the class's module and the modules that this module imports, directly or not. An imported module
    counts if it belongs to the same package, to the built-in methods and tasks, or to no installed package.
    Docstrings of modules, classes and functions, comments, formatting and imports for type checkers are not part of
    the hash. A string below an attribute is part of the hash. The hash is computed once per process and class,
    because a file edited later does not change the imported code.
    """
    if "_code_hash" not in vars(cls):
        cls._code_hash = _hash(cls)  # type: ignore[attr-defined]
    return f"{getattr(cls, 'version', 1)}-{vars(cls)['_code_hash']}"


@functools.cache
def machinery_version() -> str:
    """A hash of the code that every result uses: data and base model, the view, scoring, trimming, retraining."""
    return modules_version(MACHINERY)


@functools.cache
def gradients_version() -> str:
    """A hash of the code of `harness.gradients`."""
    return modules_version(GRADIENTS)


def modules_version(names: Collection[str]) -> str:
    """A hash of the code of modules of `harness`, by their full names."""
    return _digest(_of_file(ROOT / (name.replace(".", "/") + ".py"), "")[0] for name in names)


def _digest(texts: Iterator[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:10]


def _hash(cls: type) -> str:
    module = cls.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():  # for example a class defined in a notebook
        return _own_source(getattr(cls, "original", cls))
    sources: dict[str, str] = {}
    _collect(Path(file), module, sources)
    return _digest(sources[name] for name in sorted(sources))


def _own_source(thing: Any) -> str:
    """A hash of the source of a class or function. Without source, a hash of the function's bytecode."""
    try:
        content = inspect.getsource(thing).encode()
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return "unknown"
        content = code.co_code + repr(code.co_consts).encode() + repr(code.co_names).encode()
    return hashlib.sha256(content).hexdigest()[:10]


def _collect(path: Path, module: str, sources: dict[str, str]) -> None:
    """Add the source of a module and of its imported modules that count to ``sources``, by module name."""
    is_package = path.name == "__init__.py"
    sources[module], imported = _of_file(path, module if is_package else module.rpartition(".")[0])
    top = module.partition(".")[0]
    root = path.parents[module.count(".") + is_package]
    for name in imported:
        if name in sources:
            continue
        helper = _below(root, name) if name.partition(".")[0] == top else own_file(name, path.parent)
        if helper is not None:
            _collect(helper, name, sources)


def _below(root: Path, name: str) -> Path | None:
    place = root.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def own_file(module: str, beside: Path | None = None) -> Path | None:
    """The file of a module that belongs to no installed package, found without importing the module.

    A built-in method's or task's module has a file here even if it is installed. The result is None for `harness`
    (its parts have their own versions), the standard library, installed packages and missing modules.

    Args:
        module: full name.
        beside: a folder to look in first.
    """
    top = module.partition(".")[0]
    if top == "harness" or top in sys.stdlib_module_names:
        return None
    loaded = getattr(sys.modules.get(module), "__file__", None)
    file = Path(loaded) if loaded else _found(module, beside)
    if file is None or not file.is_file() or file.suffix != ".py":
        return None
    if top in BUILT_IN and file.resolve().is_relative_to(ROOT / top):
        return file
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    return None if installed or file.is_relative_to(sysconfig.get_paths()["stdlib"]) else file


def _found(module: str, beside: Path | None) -> Path | None:
    places: list[str] | None = [*([str(beside)] if beside else []), *sys.path]
    spec = None
    for position, name in enumerate(module.split(".")):
        spec = PathFinder.find_spec(name if position == 0 else f"_.{name}", places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None


def _of_file(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """`_parsed` of a file's present content. Most modules belong to several methods, and are read once."""
    return _parsed(path.read_text(encoding="utf-8"), package)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str, package: str) -> tuple[str, tuple[str, ...]]:
    """A module's source without docstrings, formatting and imports for type checkers, and the full names of what it
    imports.

    Args:
        text: the module's source.
        package: the package that relative imports start from.
    """
    tree = ast.parse(text)
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = [ast.Pass()]
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: max(0, len(package.split(".")) - node.level + 1)] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            imported += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False):
            node.body[0] = ast.Pass()
    return ast.unparse(tree), tuple(imported)


@functools.lru_cache
def source_commit() -> str:
    """The git commit that this package runs from (``-dirty`` with local changes), or its released version."""
    root = ROOT
    if (root / ".git").exists():
        try:
            described = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
            return described.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"v{version('influence-harness')}"
    except PackageNotFoundError:
        return "unknown"
