"""Selections, parameters, registries, plug-ins: what can be asked for, and the sentence when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

import harness
from harness.errors import RequestError
from harness.interfaces.params import build, fields_of, layered, type_text, values_of
from harness.interfaces.spec import format_term, parse_selection, parse_term
from harness.records.requests import parse_seeds
from harness.seeds import derive
from harness.selection.plan import make_plan
from harness.selection.registry import METHODS, TASKS


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
    awkward = {"path": "my data, [v2] | 3.csv", "x": "1"}
    assert parse_term(format_term("own", dict(awkward))).params["path"] == '"my data, [v2] | 3.csv"'
    assert parse_selection(format_term("own", dict(awkward)))[0].params == awkward


@pytest.mark.parametrize("text", ["", " , ", "a[x=1", "a]x", "a[x]", "a[=1]", "a[x=]", "a[x=1,x=2]", "-a[x=1]", "a b"])
def test_malformed_selections_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_selection(text)


def test_selection_by_name_glob_all_and_exclusion() -> None:
    assert names("outlier_*") == ["outlier_l1", "outlier_l2", "outlier_iforest"]
    classes = METHODS.classes()
    assert set(names("all")) == {name for name, cls in classes.items() if not cls.named_only}
    assert set(classes) - set(names("all")) == {"captum", "dattri", "kronfluence", "oracle", "pydvl", "traker"}
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
