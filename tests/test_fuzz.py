"""Seeded odd input at every other entrance (command lines, plug-ins, prompt sets, tables of one's own data): an answer
or one sentence, never a traceback, and nothing is written outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import COMMANDS, main
from harness.data.files import in_folder
from harness.errors import RequestError, Unsupported
from harness.selection.registry import METHODS, TASKS
from tests.test_damage import CASES, LIMIT, mutated, scrambled, within

PRINTED = """
- -- = --x all moons random outlier_* moons[budget=0.1|0.2] moons[ [] a[b=] none,random , ** 0 -1 1e99 nan inf 5,5 0-3
fair paper smoke md html / /nowhere .. ../.. out ' $(id) %s {}
"""
WORDS = [*PRINTED.split(), "", "\x00", "a\x00b", "\ud800", "é", "x" * 5000, "\n"]
KNOWN = """
--methods --tasks --seeds --protocol --preset --out --jobs --timeout --memory --rerun --format --output --table --figure
--baseline --judge --fail --plugin --data-dir --method --task --seed --top --labels --ignore --compare --device
--backend --isolate --scheduler --help --version --wide --repair --strict --dry-run --compare-protocols -h
"""
OPTIONS = KNOWN.split()

PLUGIN = '''
import numpy as np
from dataclasses import dataclass
from harness import Method, register_method

def plain(view, power: float = 1.0):
    """Score."""
    return -view.probs[np.arange(view.n), view.labels] ** power

@register_method
@dataclass(frozen=True)
class Decorated(Method):
    """Another."""
    name = "decorated"
    uses = ("probs", "labels")
    weight: float = 2.0

    def score(self, view):
        return self.weight * view.labels

class Duck:
    name = "duck"

    def __init__(self, k: int = 3):
        self.k = k

    def score(self, view):
        return view.features.norm(dim=1)
'''
RAISES = [
    *("raise BaseException('x')", "raise GeneratorExit", "raise SystemExit(0)", "raise SystemError", "1/0"),
    *("import nope", "from harness import nope", "raise MemoryError", "raise RecursionError('x' * 10**6)"),
    *("\x00", "\ud800", "name = None", "class Method: pass", "register_method(3)", "register_method(len)"),
    *("Decorated.name = 'random'", "np = None", "__all__ = 3", "__getattr__ = 5", "del Decorated", "print('\\x1b[2J')"),
    *("def score(view, *a, **k): pass", "async def f(view): pass", "f = lambda view: view", "def f(view, x): pass"),
    *("def f(view, x=[]): pass", "def f(view, x: 'Nope' = 1): pass", "class A(Method): name = 3"),
    "@dataclass\nclass B(Method):\n    name = 'b b'",
]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for registry in (METHODS, TASKS):
        monkeypatch.setattr(registry, "_classes", dict(registry.classes()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    datasets = pytest.importorskip("datasets")

    def offline(name: str, *_: object) -> None:
        raise ConnectionError(f"no dataset {name} in a test")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    (tmp_path / "here").mkdir()


def answered(argv: list[str], capsys: pytest.CaptureFixture[str], about: object) -> str:
    """Run a command; it must give an answer or one sentence."""
    try:
        with within(LIMIT):
            code = main(argv)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException as error:
        raise AssertionError(f"{about}: {argv!r}: {error!r}") from error
    told = capsys.readouterr()
    assert code in (0, 1, 2), (about, argv)
    assert "Traceback" not in told.err, (about, argv)
    if code == 2:
        assert len(told.err.strip()) > 0, (about, argv)
    return told.err


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "out"
    harness.run("random,self_confidence", "moons", 2, preset="smoke", out=out)
    return out


def test_command_lines(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = set(small.parent.iterdir())
    for seed in range(CASES * 2):
        rng = np.random.default_rng(seed)

        def word() -> str:
            return str(small) if rng.random() < 0.3 else WORDS[rng.integers(len(WORDS))]  # noqa: B023

        command = COMMANDS[rng.integers(len(COMMANDS))]
        argv = [command] if rng.random() < 0.95 else [word()]
        if command in ("data",):
            argv = [command, ["list", "verify", word()][rng.integers(3)]]  # nothing is fetched
        for _ in range(rng.integers(0, 5)):
            if rng.random() < 0.6:
                option = OPTIONS[rng.integers(len(OPTIONS))]
                argv += [f"{option}={word()}"] if rng.random() < 0.3 else [option, word()]
            else:
                argv.append(word())
        if command == "run" and "--dry-run" not in argv:
            argv.append("--dry-run")
        if command == "new":
            argv += ["--output", str(tmp_path / "here")]
        answered(argv, capsys, seed)
    assert set(small.parent.iterdir()) == outside


def test_plugins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        lines = PLUGIN.split("\n")
        how = rng.random()
        if how < 0.5:
            lines.insert(int(rng.integers(1, len(lines))), RAISES[rng.integers(len(RAISES))])
            raw = "\n".join(lines).encode(errors="surrogatepass")
        elif how < 0.7:
            del lines[rng.integers(len(lines))]
            raw = "\n".join(lines).encode()
        else:
            raw = scrambled(PLUGIN.encode(), rng)
        path.write_bytes(raw)
        for name in list(METHODS.classes()):
            if name in ("plain", "decorated", "duck", "f", "score"):
                METHODS._classes.pop(name)
        argv = ["run", "--plugin", str(path), "--methods", "random", "--preset", "smoke", "--dry-run"]
        told = answered(argv, capsys, (seed, raw))
        assert "\x1b" not in told
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "here", "__pycache__"}
    assert not any((tmp_path / "here").iterdir())


def test_prompt_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"What is {i} + 1?", "text": f"What is {i} + 1? It is {i + 1}.</s>", "variation": str(i % 2)}
            for i in range(8)]  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    task = harness.task("prompts_math", preset="smoke", prompts="files")
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        for split in ("train", "test"):
            changed = [mutated(row, rng) if rng.random() < 0.2 else row for row in rows]
            raw = "\n".join(json.dumps(row) for row in changed).encode()
            (folder / f"math_without_reasoning_{split}.jsonl").write_bytes(
                scrambled(raw, rng) if seed % 3 == 0 else raw
            )
        said = "x"
        with in_folder(str(folder)):
            try:
                task.load(seed)
            except (RequestError, Unsupported, ValueError) as error:
                said = str(error)
        assert 0 < len(said) < 1000, (seed, said)
        argv = ["run", "--tasks", "prompts_math[prompts=files]", "--methods", "random", "--preset", "smoke"]
        answered([*argv, "--dry-run", "--data-dir", str(folder)], capsys, seed)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "here"}
    assert len(list(folder.iterdir())) == 2


def test_tables_of_ones_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    whole = pd.DataFrame({"a": rng.normal(size=30), "b": rng.integers(0, 3, 30), "label": ["x", "y"] * 15}).to_csv(
        index=False
    )
    for seed in range(min(CASES // 5, 400)):
        rng = np.random.default_rng(seed)
        path = tmp_path / "table.csv"
        path.write_bytes(scrambled(whole.encode(), rng))
        answered(["find", str(path), "--labels", "label"], capsys, seed)
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "here"}
