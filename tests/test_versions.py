"""Code versions: what decides a number decides the key, and nothing else does."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.selection.plan import make_plan
from harness.selection.registry import METHODS, TASKS
from harness.selection.versions import GRADIENTS, MACHINERY, _below, _collect, _of_file, code_version

ROOT = Path(__file__).parents[1]

WITHOUT_NUMBERS = {
    "results.class_detection": "computed whenever results are read",
    "results.lds": "computed whenever results are read",
    "running.scored": "holds what others compute",
    "interfaces.clock": "times alone",
    "data.files": "where files are; their content is a version of its own",
    "errors": "words",
    "interfaces.telling": "words",
    "records.schema": "whether a stored file is what it should be",
    "records.score_arrays": "whether a file of scores is what it should be",
    "running.events": "how a result travels",
    "running.left_behind": "puts back what a method changed, after it has scored",
    "data.kept_files": "gives back what was written, or nothing",
    "data.fetching": "brings files whose checksums are known",
    "results.metrics": "computed whenever results are read",
    "interfaces.own_data": "an interface; what a task makes of it is the task's code",
    "interfaces.params": "values, which are part of a cell themselves",
    "packages": "where modules are found",
    "interfaces.parts": "computes each part once, and times it",
    "selection.names": "names",
    "selection.plan": "names and parameters, which are part of a cell themselves",
    "selection.registry": "names",
    "interfaces.spec": "names",
    "records.store": "keeps what it is given",
    "interfaces.uses": "words",
    "selection.versions": "this",
}
"""Modules that results pass by, and why no number depends on them."""

EDITS = """
import ast, json, pathlib, sys
sys.path.insert(0, {root!r})
from harness.selection.plan import make_plan
from harness.selection.registry import METHODS, TASKS
from harness.selection import versions

def keys():
    for cls in [*METHODS.classes().values(), *TASKS.classes().values()]:
        if "_code_hash" in vars(cls):
            del cls._code_hash
    versions.machinery_version.cache_clear()
    versions.gradients_version.cache_clear()
    return {{cell.method.name: cell.key for cell in make_plan("all", "moons", [0], "fair", "smoke")}}

before, found = keys(), {{}}
for name in {modules!r}:
    path = pathlib.Path({root!r}, *name.split(".")).with_suffix(".py")
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    numbers = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and type(n.value) in (int, float)]
    numbers = [n for n in numbers if n.lineno == n.end_lineno and lines[n.lineno - 1].isascii()]
    if numbers:
        n = numbers[0]
        line = lines[n.lineno - 1]
        lines[n.lineno - 1] = line[:n.col_offset] + repr(n.value + 7) + line[n.end_col_offset:]
        path.write_text("".join(lines))
    else:
        path.write_text(text + "\\nEDITED = 7\\n")
    after = keys()
    found[name] = sorted(method for method in before if before[method] != after[method])
    path.write_text(text + "# a comment\\n")
    assert keys() == before, name
    path.write_text(text)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_an_edited_constant_makes_exactly_the_dependent_methods_stale(tmp_path: Path) -> None:
    for package in ("harness", "methods", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    solvers = ["methods._curvature", "methods._solvers", "methods._spectral"]
    script = EDITS.format(root=str(tmp_path), modules=[*GRADIENTS, *solvers, *MACHINERY, "tasks._mlp_training"])

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)

    stale = {name: set(methods) for name, methods in json.loads(done.stdout).items()}
    solving = {"datainf", "exact_hessian", "gradient_tracing", "lissa", "self_datainf", "self_influence", "self_lissa"}
    solving |= {"relat_if", "tracin_cp", "tracin_self", "ekfac_influence", "ekfac_self_influence"}
    looking = solving | {"outlier", "outlier_iforest", "outlier_l1", "outlier_l2", "agra", "grand", "trak"}
    looking |= {"clean_probe", "knn_labels", "knn_shapley", "relation_graph", "representation_similarity"}
    planned = {name for name, cls in METHODS.classes().items() if not cls.named_only}
    everything = planned - {"test_plain", *_from_plugins()}
    for name in solvers:
        assert stale[name] == solving, name
    for name in GRADIENTS:
        assert stale[name] == looking, name
    for name in (*MACHINERY, "tasks._mlp_training"):
        assert stale[name] == everything, name


def _from_plugins() -> set[str]:
    return {name for name, cls in METHODS.classes().items() if not cls.__module__.startswith("methods.")}


def test_every_module_that_results_go_through_is_in_a_version() -> None:
    """What the runner, a method or a task imports of the harness is hashed, or known to hold no number."""
    starts = ["harness.running.group"]
    for cls in [*METHODS.classes().values(), *TASKS.classes().values()]:
        if cls.__module__.startswith(("methods.", "tasks.")):
            sources: dict[str, str] = {}
            _collect(Path(str(sys.modules[cls.__module__].__file__)), cls.__module__, sources)
            starts += sources
    reached, todo = set(starts), list(starts)
    while todo:
        name = todo.pop()
        path = _below(ROOT, name)
        if path is None or path.name == "__init__.py":
            continue  # a name in a module, or what a room says of itself
        for imported in _of_file(path, name.rpartition(".")[0])[1]:
            if imported.startswith("harness.") and imported not in reached and _below(ROOT, imported):
                reached.add(imported)
                todo.append(imported)

    numberless = {f"harness.{name}" for name in WITHOUT_NUMBERS}
    rooms = {f"harness.{path.parent.name}" for path in (ROOT / "harness").glob("*/__init__.py")}
    unknown = {name for name in reached if name.startswith("harness.")} - {*MACHINERY, *GRADIENTS} - numberless - rooms
    assert not unknown, "put them into MACHINERY or GRADIENTS of harness/selection/versions.py, or say here why not"


def test_what_differentiates_the_model_depends_on_gradient_code() -> None:
    for name in ("ekfac_influence[layers=all]", "trak[layers=all]", "knn_labels[of=encoder]"):
        (cell,) = make_plan(name, "moons", [0], "fair", "smoke")
        assert cell.versions["gradients"], name
    (cell,) = make_plan("self_confidence", "moons", [0], "fair", "smoke")
    assert "gradients" not in cell.versions


def test_code_versions_see_code_and_not_comments(tmp_path: Path) -> None:
    def version(text: str) -> str:
        path = tmp_path / "versioned.py"
        path.write_text(text)
        os.utime(path, ns=(0, abs(hash(text)) % 10**15))
        spec = importlib.util.spec_from_file_location("versioned", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["versioned"] = module
        spec.loader.exec_module(module)
        return code_version(module.A)

    plain = version("class A:\n    x = 1\n")
    assert version('"""Doc."""\nclass A:\n    """Doc."""\n    x = 1  # one\n') == version(
        '"""D."""\nclass A:\n    """E."""\n    x =  1\n'
    )
    assert version("class A:\n    x = 1  # comment\n") == plain
    assert version("class A:\n    x = 2\n") != plain


def test_a_helper_modules_change_counts() -> None:
    """A task's version covers the modules that its own imports lazily."""
    seen: dict[str, str] = {}
    path = ROOT / "tasks" / "synthetic.py"

    _collect(path, "tasks.synthetic", seen)

    assert {"tasks.synthetic", "tasks._tabular", "tasks._mlp", "tasks._noise"} <= set(seen)


@pytest.mark.parametrize("line", ["import helper", "from helper import strength", "import pieces.helper"])
def test_files_beside_a_plugin_count(tmp_path: Path, line: str) -> None:
    """A helper file of one's own decides the scores of the plug-in that imports it."""
    (tmp_path / "pieces").mkdir()
    helpers = [tmp_path / "helper.py", tmp_path / "pieces" / "helper.py"]
    (tmp_path / "plugin.py").write_text(f"def score(view):\n    {line}\n    import numpy, json\n")

    def sources(strength: int) -> dict[str, str]:
        for helper in helpers:
            helper.write_text(f"strength = {strength}\n")
        found: dict[str, str] = {}
        _collect(tmp_path / "plugin.py", "plugin_of_a_user", found)
        return found

    one, two = sources(1), sources(2)

    assert one != two
    assert {name.partition(".")[0] for name in one} <= {"plugin_of_a_user", "helper", "pieces"}


def test_a_plugin_that_builds_on_a_built_in_method_follows_it(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("from methods.influence import DataInf\n")
    found: dict[str, str] = {}

    _collect(tmp_path / "plugin.py", "plugin_of_a_user", found)

    assert {"methods.influence", "methods._solvers"} <= set(found)
    assert not any(name.startswith(("harness", "torch", "numpy")) for name in found)


def test_imports_for_type_checkers_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tasks.moons\nx = 1\n")

    text, imported = _of_file(path, "")

    assert "moons" not in text
    assert imported == ("typing", "typing.TYPE_CHECKING")
    ast.parse(text)
