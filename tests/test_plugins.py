"""Methods and tasks from plain classes, functions, modules and entry points."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.interfaces.params import fields_of
from harness.selection.plugins import absolute, load_plugin, split_source
from harness.selection.registry import METHODS, Registry
from tests.conftest import last_layer, plug_in, view_of

FILE = '''
import numpy as np
from numpy.linalg import norm  # imported functions are not the file's own


class LossXL:
    """Cross-entropy of the given label."""

    title = "Loss"

    def __init__(self, temperature: float = 1.0, shift=0):
        self.temperature, self.shift = temperature, shift

    def score(self, view):
        given = view.probs[np.arange(view.n), view.labels]
        return -np.log(given + 1e-12) / self.temperature + self.shift


class Pairs:
    def attribute(self, view):
        return np.outer(np.arange(3), np.arange(view.n))


def entropy(view, base: float = 2.0):
    "Entropy of the probabilities."
    return -(view.probs * np.log(view.probs + 1e-12)).sum(1) / np.log(base)


def helper(x):
    return x


def _hidden(view):
    return 0
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    plug_in(monkeypatch)
    path = tmp_path / "detectors.py"
    path.write_text(FILE)
    return str(path)


def test_plain_classes_and_functions_become_methods(file: str) -> None:
    assert [cls.name for cls in load_plugin(file)] == ["loss_xl", "pairs", "entropy"]
    arrays = last_layer(6, 3, 4)
    view = view_of(arrays)
    given = arrays["probs"][np.arange(6), arrays["labels"]]
    np.testing.assert_allclose(harness.method("loss_xl[temperature=2]").score(view), -np.log(given) / 2)
    np.testing.assert_allclose(harness.method("loss_xl", shift=3).score(view), -np.log(given) + 3)
    entropy = -(arrays["probs"] * np.log(arrays["probs"])).sum(1)
    np.testing.assert_allclose(harness.method("entropy", base=np.e).score(view), entropy)
    np.testing.assert_array_equal(harness.method("pairs").score(view), np.arange(6.0))
    assert harness.method("pairs").attribute(view).shape == (3, 6)
    with pytest.raises(harness.Unsupported, match="attributes nothing"):
        harness.method("entropy").attribute(view)
    own = {name: field for name, field in fields_of(METHODS.get("loss_xl")).items() if name != "threshold"}
    assert own == {"temperature": (float, 1.0), "shift": (int, 0)}
    assert METHODS.get("loss_xl").title == "Loss"
    assert METHODS.get("entropy").__doc__ == "Entropy of the probabilities."
    with pytest.raises(RequestError, match=r"loss_xl has no parameter 'temp' .did you mean 'temperature'"):
        harness.method("loss_xl[temp=2]")


def test_they_travel_between_processes(file: str, tmp_path: Path) -> None:
    load_plugin(file)
    made = harness.method("loss_xl", temperature=3)
    assert pickle.loads(pickle.dumps(made)) == made
    frame = harness.run(
        "loss_xl[temperature=2],entropy,random", "moons", 2, preset="smoke", out=tmp_path / "r", jobs=2, plugins=[file]
    )
    assert set(frame["status"]) == {"ok"}
    uses = dict(zip(frame["method"], frame["uses"], strict=True))
    assert uses == {"loss_xl": "labels;probs", "entropy": "probs", "random": ""}  # as observed


def test_a_change_of_the_function_makes_results_stale(file: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    command = ["run", "--plugin", file, "--methods", "entropy", "--preset", "smoke", "--seeds", "1", "--out", str(out)]
    assert main(command) == 0
    before = {json.loads(path.read_text())["key"] for path in out.rglob("seed*.json")}
    Path(file).write_text(FILE.replace("1e-12", "1e-9"))
    assert main(["status", str(out), "--plugin", file]) == 0
    assert main([*command, "--rerun", "stale"]) == 0
    assert before.isdisjoint({json.loads(path.read_text())["key"] for path in out.rglob("seed*.json")})


def test_one_of_a_file(file: str) -> None:
    assert [cls.name for cls in load_plugin(f"{file}:entropy")] == ["entropy"]
    assert [cls.name for cls in load_plugin(f"{file}:entropy")] == ["entropy"]
    assert "loss_xl" not in METHODS.classes()
    assert [cls.name for cls in load_plugin(f"{file}:_hidden")] == ["_hidden"]
    with pytest.raises(RequestError, match=r"it has no 'entropi' .did you mean 'entropy'"):
        load_plugin(f"{file}:entropi")
    with pytest.raises(RequestError, match="'helper' is no method: a class with score"):
        load_plugin(f"{file}:helper")
    assert len(load_plugin(file)) == 4  # and all of it afterwards


def test_where_something_is_decorated_the_rest_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    path = tmp_path / "decorated.py"
    path.write_text(FILE.replace("def entropy", "import harness\n\n\n@harness.register_method\ndef entropy"))
    assert [cls.name for cls in load_plugin(str(path))] == ["entropy"]
    assert "loss_xl" not in METHODS.classes()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "it brings no method and no task; a method is a class with score"),
        ("def f(view, strength):\n    return 0\n", "the parameter 'strength' of f needs a default value"),
        ("class Lissa:\n    def score(self, view):\n        return 0\n", "'lissa' is taken by methods.influence.LiSSA"),
        (
            "def f(view, limit=float('inf')):\n    return 0\n",
            "the default of 'limit' of f is inf; parameters are finite",
        ),
        ("import numpy as np\ndef f(view, k=np.int64(3)):\n    return 0\n", "parameters are finite numbers, text"),
        ("def f(view, name='x'):\n    return 0\n", "a parameter of f cannot be called 'name'"),
        ("f = lambda view: 0\n", "it brings no method and no task"),
        ("class Clf:\n    def score(self, X, y):\n        return 0\n", "it brings no method and no task"),
    ],
)
def test_what_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str) -> None:
    plug_in(monkeypatch)
    path = tmp_path / "poor.py"
    path.write_text(text)
    with pytest.raises(RequestError, match=sentence):
        load_plugin(str(path))


def test_entry_points_may_be_functions_and_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, name: str, thing: Any) -> None:
            self.name, self.load = name, lambda: thing

    def spread(view: harness.View) -> np.ndarray:
        return np.asarray(view.probs.std(1))

    module = ModuleType("their_detectors")
    exec("def theirs(view):\n    return view.probs.max(1)\n", vars(module))  # noqa: S102 - a module of our own
    points = [Point("spread", spread), Point("module", module)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == "harness.methods" else [])
    registry: Registry[harness.Method] = Registry("method", "methods")
    assert {"spread", "theirs"} <= set(registry.classes())
    assert registry.unavailable == {}


STYLED = """
from __future__ import annotations
from typing import TYPE_CHECKING, ClassVar
import numpy as np
from harness import Method
if TYPE_CHECKING:
    from harness import View


class Family(Method):
    def score(self, view: View) -> np.ndarray:
        return np.full(view.n, self.offset)


class Member(Family):
    name: ClassVar[str] = "member"
    offset: float = 2.0


def cut_at(view: View, k: int = 3, cut=None) -> np.ndarray:
    return np.full(view.n, k if cut is None else cut)


cut_at.trims = False
"""


def test_in_the_style_of_this_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names for type checkers alone, a base that is no method itself, None as a default, declared attributes."""
    plug_in(monkeypatch)
    path = tmp_path / "styled.py"
    path.write_text(STYLED)
    assert [cls.name for cls in load_plugin(str(path))] == ["member", "cut_at"]
    view = view_of(last_layer(4, 3, 4))
    assert harness.method("cut_at[cut=0.5]").score(view)[0] == 0.5
    assert harness.method("cut_at[cut=none,k=7]").score(view)[0] == 7
    assert harness.method("member").score(view)[0] == 2
    assert METHODS.get("cut_at").trims is False


def test_two_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    for folder, name in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "det.py").write_text(f"def {name}(view):\n    return -view.probs.max(1)\n")
        load_plugin(str(tmp_path / folder / "det.py"))
    assert {"first", "second"} <= set(METHODS.classes())


def test_a_change_in_a_helper_module_makes_results_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a package with relative imports, too."""
    import importlib
    import sys

    from harness.selection.versions import code_version

    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from .core import sign\n\n\ndef theirs(view):\n    return sign * view.labels\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for sign in (1, -1):
        plug_in(monkeypatch)
        (package / "core.py").write_text(f"sign = {sign}\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        METHODS.forget("their_package")
        (cls,) = load_plugin("their_package")
        found.append(code_version(cls))
    assert found[0] != found[1]


def test_functions_of_a_notebook_have_versions() -> None:
    from harness.selection.adoption import method_class
    from harness.selection.versions import code_version

    versions = []
    for sign in ("-", "+"):
        names: dict[str, Any] = {"__name__": "a_notebook"}
        exec(f"def cell(view):\n    return {sign}view.probs.max(1)\n", names)  # noqa: S102 - our own line
        versions.append(code_version(method_class(names["cell"])))
    assert versions[0] != versions[1]


def test_sources() -> None:
    assert split_source("a/b.py:Name") == ("a/b.py", "Name")
    assert split_source("package.module:name") == ("package.module", "name")
    assert split_source("a.py") == ("a.py", "")
    assert absolute("tests/conftest.py:plug_in") == f"{Path('tests/conftest.py').resolve()}:plug_in"
    assert absolute("package.module") == "package.module"


def test_a_helper_with_a_view_is_no_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    path = tmp_path / "with_helper.py"
    path.write_text(
        "def pick(view, values):\n    return values[range(view.n), view.labels]\n\n\n"
        "def with_a_helper(view):\n    return -pick(view, view.probs)\n"
    )

    assert [cls.name for cls in load_plugin(str(path))] == ["with_a_helper"]

    helpers = [
        "import numpy as np\ndef helper(view, f=np.mean):\n    return f(view.labels)\n",
        "def plot(view, ax=None, title=None):\n    return None\n",
        "class Tool:\n    def __init__(self, x):\n        pass\n    def score(self, view):\n        return 1\n",
        "def combine(view, *parts):\n    return sum(parts)\n",
    ]
    for number, helper in enumerate(helpers):
        another = tmp_path / f"another_{number}.py"
        another.write_text(f"{helper}\ndef good_{number}(view):\n    return -view.labels\n")
        assert [cls.name for cls in load_plugin(str(another))] == [f"good_{number}"]

    path.write_text("def alone(view, strength):\n    return strength * view.labels\n")
    with pytest.raises(RequestError, match="'strength' of alone needs a default value"):
        load_plugin(str(path))
