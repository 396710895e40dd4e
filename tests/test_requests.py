"""Selections, parameters, registries, plug-ins: what can be asked for, and the sentence when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import harness
from harness.errors import RequestError
from harness.interfaces.params import build, fields_of, layered, type_text, values_of
from harness.interfaces.spec import format_term, parse_selection, parse_term
from harness.records.requests import parse_seeds
from harness.seeds import derive
from harness.selection.plan import make_plan
from harness.selection.plugins import load_plugin
from harness.selection.registry import METHODS, TASKS, Registry


def names(selection: str) -> list[str]:
    return [cls.name for cls, _ in METHODS.select(selection)]


@dataclass(frozen=True)
class Example:
    name: ClassVar[str] = "example"
    count: int = 3
    rate: float | Literal["auto"] = "auto"
    limit: int | None = None
    kind: Literal["symmetric", "pair"] = "pair"
    on: bool = True
    sign: Literal[1, -1] = 1


def test_terms() -> None:
    term = parse_term("datainf[damping=0.01, reference=train]")
    assert (term.pattern, term.params) == ("datainf", {"damping": "0.01", "reference": "train"})
    assert format_term("a", {"x": 1, "y": None}) == "a[x=1,y=none]"
    assert [(t.pattern, t.exclude) for t in parse_selection("all,-lissa")] == [("all", False), ("lissa", True)]
    assert len(parse_selection("a[x=1,y=2],b")) == 2


@pytest.mark.parametrize("text", ["", " , ", "a[x=1", "a]x", "a[x]", "a[=1]", "a[x=]", "a[x=1,x=2]", "-a[x=1]", "a b"])
def test_malformed_selections_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_selection(text)


def test_selection_by_name_glob_all_and_exclusion() -> None:
    assert names("outlier_*") == ["outlier_l1", "outlier_l2", "outlier_iforest"]
    assert set(names("all")) == set(METHODS.classes())
    assert "lissa" not in names("all,-lissa")
    assert not set(names("all,-self_*")) & {"self_lissa", "self_confidence"}
    assert names("datainf,datainf") == ["datainf"]
    assert len(names("datainf,datainf[damping=0.1]")) == 2
    with pytest.raises(RequestError, match="leaves no method"):
        names("lissa,-lissa")
    with pytest.raises(RequestError, match=r"unknown method 'nothing_\*'"):
        names("nothing_*")


def test_a_parameter_of_a_glob_goes_to_those_that_have_it() -> None:
    chosen = {cls.name: params for cls, params in METHODS.select("all[damping=0.1]")}
    assert chosen["datainf"] == {"damping": "0.1"}
    assert chosen["outlier_l2"] == {}
    with pytest.raises(RequestError, match="has a parameter 'nonsense'"):
        METHODS.select("outlier_*[nonsense=1]")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"unknown method 'datainv' .did you mean 'datainf'"):
        harness.method("datainv")
    with pytest.raises(RequestError, match=r"unknown task 'moon' .did you mean 'moons'"):
        harness.task("moon")
    with pytest.raises(RequestError, match=r"datainf has no parameter 'dampin' .did you mean 'damping'"):
        harness.method("datainf[dampin=1]")


def test_values_are_coerced_to_the_fields_types() -> None:
    made = build(Example, {"count": "5", "rate": "0.5", "limit": "none", "kind": "symmetric", "on": "no", "sign": "-1"})
    assert made == Example(5, 0.5, None, "symmetric", False, -1)
    assert build(Example, {"rate": "auto", "limit": "7"}) == Example(rate="auto", limit=7)
    assert values_of(Example()) == {"count": 3, "rate": "auto", "limit": None, "kind": "pair", "on": True, "sign": 1}
    assert type_text(fields_of(Example)["rate"][0]) == "float|auto"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", "5.5"),
        ("count", True),
        ("rate", "fast"),
        ("limit", "x"),
        ("kind", "pears"),
        ("on", "maybe"),
        ("sign", 0),
    ],
)
def test_values_that_do_not_fit_are_refused(key: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"example\[{key}="):
        build(Example, {key: value})


def test_layers_of_values() -> None:
    class Layered(Example):
        protocols: ClassVar = {"paper": {"count": 1, "kind": "symmetric"}}
        presets: ClassVar = {"smoke": {"count": 2}}

    assert layered(Layered, "paper", "smoke", {}) == {"count": 2, "kind": "symmetric"}
    assert layered(Layered, "paper", "smoke", {"count": 9})["count"] == 9
    assert layered(Layered, "fair", "fast", {}) == {}


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("0,3,7", (0, 3, 7)), ("4,4", (4,)), (2, (0, 1)), ([5], (5,))]
)
def test_seeds(text: str | int | list[int], seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "x", "1,x", "0,-2", []])
def test_impossible_seeds_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--seeds"):
        parse_seeds(text)


def test_seeds_derive_from_named_axes() -> None:
    assert derive("data", "moons", 0) == derive("data", "moons", 0)
    assert (
        len({derive(*axes) for axes in [("data", "a", 0), ("data", "a", 1), ("model", "a", 0), ("data", "b", 0)]}) == 4
    )
    assert 0 <= derive("x") < 2**32


def test_cells_have_one_slot_whatever_the_order_of_parameters() -> None:
    first = make_plan("datainf[damping=0.1,reference=train]", "moons", [0], "fair", "smoke")
    second = make_plan("datainf[reference=train,damping=1e-1]", "moons", [0], "fair", "smoke")
    assert [c.slot for c in first] == [c.slot for c in second]
    assert first[0].key == second[0].key
    others = make_plan("datainf[damping=0.2,reference=train]", "moons", [0], "fair", "smoke")
    assert others[0].slot != first[0].slot


def test_protocols_are_tables_of_values() -> None:
    """Every value a protocol or preset sets is a parameter that exists and accepts it."""
    for registry in (METHODS, TASKS):
        for cls in registry.classes().values():
            for values in [*cls.protocols.values(), *getattr(cls, "presets", {}).values()]:
                build(cls, values)


def test_no_method_branches_on_the_protocol() -> None:
    for folder in ("methods", "tasks"):
        for path in (Path(__file__).parents[1] / folder).glob("*.py"):
            assert "protocol ==" not in path.read_text(), path


PLUGIN = """
from dataclasses import dataclass
import numpy as np
from harness import Method, register_method

@register_method
@dataclass(frozen=True)
class Mine(Method):
    "Counts down."
    name = "{name}"
    step: float = 1.0

    def score(self, view):
        return -self.step * np.arange(view.n)
"""


def test_plugin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="countdown"))
    load_plugin(str(path))
    assert harness.method("countdown", step=2.0).score(harness.View.from_blocks({"a": np.eye(3)}))[2] == -4
    with pytest.raises(TypeError, match="is taken by"):
        METHODS.register(dataclass(frozen=True)(type("Thief", (METHODS.get("lissa"),), {"name": "countdown"})))
    with pytest.raises(TypeError, match="must be a @dataclass"):
        METHODS.register(type("Plain", (METHODS.get("lissa"),), {"name": "plain"}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def broken(:\n", "invalid syntax"),
        ("import a_module_that_is_not_there\n", "No module named"),
        ("raise RuntimeError('on purpose')\n", "on purpose"),
        (PLUGIN.format(name="lissa"), "is taken by"),
        (PLUGIN.format(name="bad name"), "must be a word"),
        (PLUGIN.format(name="needy").replace(" = 1.0", ""), "needs a default value"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
    ],
)
def test_broken_plugins_get_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(RequestError, match=sentence):
        load_plugin(str(path))
    with pytest.raises(RequestError, match="no such file"):
        load_plugin(str(tmp_path / "absent.py"))
    with pytest.raises(RequestError, match="No module named"):
        load_plugin("a.module.that.is.not.there")


def test_entry_points_are_taken_and_broken_ones_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, name: str, load: object) -> None:
            self.name, self.load = name, load

    @dataclass(frozen=True)
    class Theirs(harness.Method):
        name: ClassVar[str] = "theirs"

    def fail() -> None:
        raise ImportError("no such library")

    points = [Point("theirs", lambda: Theirs), Point("broken", fail)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == "harness.methods" else [])
    registry: Registry[harness.Method] = Registry("method", "methods")
    assert registry.classes()["theirs"] is Theirs
    assert registry.unavailable == {"broken": "ImportError: no such library"}
    with pytest.raises(RequestError, match="'broken' is unavailable: ImportError: no such library"):
        registry.get("broken")


@pytest.mark.parametrize("setting", ["abc", "0", "-3", "inf"])
def test_an_impossible_chunk_size_is_refused_before_anything_is_written(tmp_path: Path, setting: str) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--methods",
        "none",
        "--tasks",
        "blobs",
        "--out",
        str(tmp_path / "r"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HARNESS_CHUNK_MIB": setting})
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"python -m harness run: HARNESS_CHUNK_MIB={setting} is not valid; give a positive number of MiB, such as 64"
    ]
    assert not (tmp_path / "r").exists()


SCRIPT = """
import harness

def mine(view):
    return -view.probs[range(view.n), view.labels]

frame = harness.run("self_confidence,random", "moons", seeds=2, preset="smoke", out={out!r}, timeout=120)
print(sorted(set(frame["status"])), len(frame["key"].unique()))
"""


@pytest.mark.parametrize("way", ["script", "stdin", "command", "notebook"])
def test_a_time_limit_needs_no_main_guard(tmp_path: Path, way: str) -> None:
    """Its processes leave the running script alone."""
    script = SCRIPT.format(out=str(tmp_path / "r"))
    (tmp_path / "script.py").write_text(script)
    python = [sys.executable]
    arguments = {
        "script": [*python, "script.py"],
        "stdin": [*python, "-"],
        "command": [*python, "-c", script],
        "notebook": [*python, "-c", "import code, sys; code.InteractiveInterpreter().runcode(sys.stdin.read())"],
    }
    done = subprocess.run(arguments[way], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["['ok']", "4"], done.stderr
    assert "Traceback" not in done.stderr


def my_own(view: Any, power: int = 1) -> Any:
    return (1 - view.probs[range(view.n), view.labels]) ** power


def test_functions_classes_and_instances_may_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    method, task = harness.method("datainf", damping=0.5), harness.task("moons", preset="smoke", steps=300)

    by_name = harness.run("datainf[damping=0.5]", "moons[steps=300]", 1, preset="smoke", out=tmp_path / "a")
    by_object = harness.run(method, task, 1, preset="smoke", out=tmp_path / "b")
    several = harness.run([my_own, "random", method], [task, "blobs"], 1, preset="smoke", out=tmp_path / "c")

    assert set(by_object["slot"]) == set(by_name["slot"])
    assert set(several["method"]) == {"my_own", "random", "datainf"}
    assert set(several["task"]) == {"moons", "blobs"}
    assert set(several["status"]) == {"ok"}
    with pytest.raises(RequestError, match="cannot be a method"):
        harness.run([3], "moons", 1, out=tmp_path / "d")
    with pytest.raises(RequestError, match="cannot be a task"):
        harness.run("none", [my_own], 1, out=tmp_path / "d")


def scorer(k: int) -> Any:
    def made(view: Any) -> Any:
        return view.labels * k

    made.name = f"scorer_{k}"  # type: ignore[attr-defined]
    return made


class Plain:
    def __init__(self, power: int = 1) -> None:
        self.power = power

    def score(self, view: Any) -> Any:
        return view.labels


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": [scorer(1), scorer(2)], "timeout": 60}, "defined inside a function"),
        ({"methods": Plain(5)}, "cannot be a method"),
        ({"backend": "x"}, "unknown backend 'x'"),
        ({"preset": None}, "--preset None is not valid"),
        ({"device": None}, "--device None is not valid"),
        ({"device": "cuda:²"}, "is not a device"),
        ({"timeout": "60"}, "--timeout '60' is not valid"),
        ({"jobs": "2"}, "--jobs '2' is not valid"),
        ({"jobs": 1.5}, "--jobs 1.5 is not valid"),
        ({"seeds": [0.5, 1.5]}, "--seeds"),
        ({"plugins": [Path("absent.py")]}, "no such file"),
        ({"methods": "outlier[detector=sklearn.cluster:KMeans]"}, "no detector of outliers"),
        ({"methods": "outlier[detector=sklearn.pipeline:Pipeline]"}, "detector=Pipeline needs steps"),
    ],
)
def test_what_run_cannot_do_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    with pytest.raises(RequestError, match=sentence):
        harness.run(**{"methods": "none", "tasks": "moons", "seeds": 1, "out": tmp_path / "r", **options})
    assert not (tmp_path / "r").exists()


def test_functions_of_a_module_travel_to_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    frame = harness.run([my_own, "random"], "moons", 2, preset="smoke", out=tmp_path, timeout=120)
    assert set(frame["status"]) == {"ok"}
    assert set(frame["method"]) == {"my_own", "random"}
