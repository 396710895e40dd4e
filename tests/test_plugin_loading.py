"""Plug-in files and entry points: taken, or refused in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import harness
from harness.errors import RequestError
from harness.selection.plugins import load_plugin
from harness.selection.registry import METHODS, Registry

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
