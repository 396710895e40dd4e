"""The code version of a method or task: what tells that a stored result came from other code."""

from __future__ import annotations

import ast
import functools
import hashlib
import subprocess
import sys
from pathlib import Path


def code_version(cls: type) -> str:
    """``<declared version>-<hash>`` of a class.

    The hash covers the class's module and the modules of the same package that it imports, without docstrings,
    comments and formatting: those make no result stale, a changed line of code does. It is taken once a process and
    class, as the code is: a file edited meanwhile does not change what runs.
    """
    if "_code_hash" not in vars(cls):
        cls._code_hash = _hash(cls.__module__)  # type: ignore[attr-defined]
    return f"{getattr(cls, 'version', 1)}-{vars(cls)['_code_hash']}"


def _hash(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return "unknown"  # defined in a notebook, say
    sources: dict[str, str] = {}
    _collect(Path(file), module, sources)
    return hashlib.sha256("".join(sources[name] for name in sorted(sources)).encode()).hexdigest()[:10]


def _collect(path: Path, module: str, sources: dict[str, str]) -> None:
    sources[module], imported = _parsed(path)
    top = module.partition(".")[0]
    root = path.parents[module.count(".")]
    for name in imported:
        helper = root.joinpath(*name.split(".")).with_suffix(".py")
        if name.partition(".")[0] == top and name not in sources and helper.is_file():
            _collect(helper, name, sources)


def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
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
