"""Templates of small packages: a new detector or a new task, with a test and a CI gate."""

from __future__ import annotations

import json
import keyword
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from string import Template

from harness.errors import RequestError
from harness.selection.registry import METHODS, TASKS

HERE = Path(__file__).parent


def new(kind: str, name: str, folder: str | None = None) -> list[Path]:
    """Write a package for a new method or task.

    Args:
        kind: ``method`` or ``task``.
        name: the name on the command line, and the name of the module.
        folder: the package's folder. The default is the name with hyphens, so that the folder cannot hide the module.

    Returns:
        The files written.

    Raises:
        RequestError: the name is not usable or is taken, or the folder exists already.
    """
    registry = {"method": METHODS, "task": TASKS}[kind]
    if (
        not name.isidentifier()
        or not name.isascii()
        or keyword.iskeyword(name)
        or name != name.lower()
        or name.startswith("_")
    ):
        raise RequestError(f"{name!r} is not a usable name; give a lower-case word such as my_{kind}")
    if name in registry.classes():
        raise RequestError(f"the {kind} name {name!r} is taken; give another")
    target = Path(folder or folder_of(kind, name))
    if target.exists():
        raise RequestError(f"{target} is there already; give another name, or another folder by --output")
    if name in sys.stdlib_module_names or _importable(name):
        raise RequestError(f"there is a Python module {name!r} already, which yours would hide; give another name")
    title = "".join(part.capitalize() for part in name.split("_"))
    if title in ("Method", "Samples", "Split", "Task", "View"):
        raise RequestError(f"{name!r} would name a class {title}, as the harness has one; give another name")
    values = {
        "name": name,
        "Name": title,
        "title": name.replace("_", " ").capitalize(),
        "requirement": _requirement(),
        "kind": kind,
    }
    written = []
    for source in sorted([*(HERE / kind).iterdir(), *(HERE / "common").iterdir()]):
        if source.suffix != ".txt":
            continue
        path = target / source.stem.replace("__name__", name).replace("--", "/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(source.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
        except OSError as error:
            raise RequestError(f"{path} cannot be written: {error.strerror}") from error
        written.append(path)
    return written


def folder_of(kind: str, name: str) -> str:
    """The folder of a new package."""
    return name.replace("_", "-") if "_" in name else f"{name}-{kind}"


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _requirement() -> str:
    """The new package's dependency: the repository that this harness was installed from, or its release."""
    try:
        installed = distribution("influence-harness")
    except PackageNotFoundError:
        return "influence-harness"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    vcs = origin.get("vcs_info")
    if vcs:
        return f"influence-harness @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    return f"influence-harness>={installed.version}"
