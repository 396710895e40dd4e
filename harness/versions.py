"""The code version of a method or task: what tells that a stored result came from other code."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any


def code_version(cls: type) -> str:
    """``<declared version>-<hash>`` of a class.

    The hash covers the class's module and the modules of the same package that it imports, without docstrings,
    comments and formatting: those make no result stale, a changed line of code does. It is taken once a process and
    class, as the code is: a file edited meanwhile does not change what runs.
    """
    if "_code_hash" not in vars(cls):
        cls._code_hash = _hash(cls)  # type: ignore[attr-defined]
    return f"{getattr(cls, 'version', 1)}-{vars(cls)['_code_hash']}"


def _hash(cls: type) -> str:
    module = cls.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():  # defined in a notebook, say
        return _own_source(getattr(cls, "original", cls))
    sources: dict[str, str] = {}
    _collect(Path(file), module, sources)
    return hashlib.sha256("".join(sources[name] for name in sorted(sources)).encode()).hexdigest()[:10]


def _own_source(thing: Any) -> str:
    """A hash of a class's or function's own source; of a function's bytecode where there is none."""
    try:
        content = inspect.getsource(thing).encode()
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return "unknown"
        content = code.co_code + repr(code.co_consts).encode() + repr(code.co_names).encode()
    return hashlib.sha256(content).hexdigest()[:10]


def _collect(path: Path, module: str, sources: dict[str, str]) -> None:
    is_package = path.name == "__init__.py"
    sources[module], imported = _parsed(path, module if is_package else module.rpartition(".")[0])
    top = module.partition(".")[0]
    root = path.parents[module.count(".") + is_package]
    for name in imported:
        place = root.joinpath(*name.split("."))
        if name.partition(".")[0] == top and name not in sources:
            helper = next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)
            if helper is not None:
                _collect(helper, name, sources)


def _parsed(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """A module's source without docstrings and formatting, and the full names of what it imports.

    Args:
        package: that relative imports start from.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: max(0, len(package.split(".")) - node.level + 1)] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            imported += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body[0] = ast.Pass()
    return ast.unparse(tree), tuple(imported)


@functools.lru_cache
def source_commit() -> str:
    """The git commit that this package runs from (``-dirty`` with local changes), or its released version."""
    root = Path(__file__).resolve().parents[1]
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
