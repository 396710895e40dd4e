"""Seeded damage to everything that is stored: an answer or one sentence from every command, never a traceback."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.records.store import Store

CASES = int(os.environ.get("HARNESS_FUZZ", "100"))
"""Damaged folders. `tox -e survive` tries many."""

ODD: list[Any] = [
    *(None, True, -1, 0, 3, 10**30, -(10**30), 10**400, 5e300, math.inf, -math.inf, math.nan, 0.5),
    *("", "x", "\ud800", "\x1b[2J\x07", "<script>", "../../../etc", "1e999", "y" * 3000, "z" * 300_000),
    *([], {}, [[]], {"a": {"b": {}}}, [None], ["x", 1], {"converged": 3}),
]


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


def mutated(content: Any, rng: np.random.Generator) -> Any:
    """A copy with one value deleted, replaced or added, at a random place."""
    content = copy.deepcopy(content)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            return content
        key = keys[rng.integers(len(keys))]
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.6:
            place = place[key]
            continue
        odd = nested(200) if rng.random() < 0.02 else ODD[rng.integers(len(ODD))]
        how = rng.random()
        if how < 0.2:
            del place[key]
        elif how < 0.3 and isinstance(place, dict):
            place[f"{odd!r}"[:50]] = odd
        else:
            place[key] = odd
        return content


def scrambled(raw: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut off, doubled, or a few of them changed."""
    how = rng.random()
    if how < 0.3:
        return raw[: rng.integers(len(raw))]
    if how < 0.4:
        return raw + raw
    changed = bytearray(raw)
    for place in rng.integers(0, len(raw), rng.integers(1, 9)):
        changed[place] = rng.integers(256)
    return bytes(changed)


def other_arrays(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> bytes:
    """A well-formed file of other arrays: another kind, length, shape, or names that are missing or too many."""
    name = list(arrays)[rng.integers(len(arrays))]
    array = arrays[name]
    odd = [
        *(array[..., :-1] if array.ndim else array, array.astype(str), array.astype(complex), array[None]),
        *(np.zeros(0), np.full(array.shape, np.nan), np.full(array.shape, np.inf), array.astype("datetime64[s]")
          if array.dtype.kind in "iu" else array.astype(np.int8), np.array(["x", {}], dtype=object)),
    ]  # fmt: skip
    changed = {**arrays, name: odd[rng.integers(len(odd))]}
    if rng.random() < 0.3:
        del changed[name]
    if rng.random() < 0.1:
        changed["../evil"] = np.zeros(3)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **changed)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("usual") / "out"
    harness.run("self_confidence,confident_learning,datainf,none", "moons[budget=0.05|0.1]", 2, preset="smoke", out=out)
    harness.run("random,datainf", "prompts_math[per_class=10,test_per_class=2]", 1, preset="smoke", out=out)
    assert main(["baseline", "write", str(out), str(out.parent / "baseline.json")]) == 0
    return out


def damage(out: Path, rng: np.random.Generator) -> str:
    """Damage one file of a results folder; says which kind of file."""
    kind = ("record", "scores", "request", "metrics", "bytes")[rng.integers(5)]
    records = sorted(out.rglob("records/*/*/*.json"))
    record = records[rng.integers(len(records))]
    if kind == "record":
        record.write_text(json.dumps(mutated(json.loads(record.read_text()), rng)))
    elif kind == "scores":
        file = record.with_suffix(".npz")
        with np.load(file) as loaded:
            arrays = dict(loaded)
        raw = other_arrays(rng, arrays) if rng.random() < 0.6 else scrambled(file.read_bytes(), rng)
        file.write_bytes(raw)
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "scores_sha256": hashlib.sha256(raw).hexdigest()}))
    elif kind == "request":
        requests = sorted((out / "requests").glob("*.json"))
        file = requests[rng.integers(len(requests))]
        file.write_text(json.dumps(mutated(json.loads(file.read_text()), rng)))
    elif kind == "metrics":
        file = out / "metrics.json"
        file.write_text(json.dumps(mutated(json.loads(file.read_text()), rng)))
    else:
        files = [path for path in sorted(out.rglob("*")) if path.is_file()]
        file = files[rng.integers(len(files))]
        file.write_bytes(scrambled(file.read_bytes(), rng))
    return kind


LIMIT = 120
"""Seconds after which a command hangs."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block if it takes longer; where there are no alarms, waits."""

    def late(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds:g} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def looks(out: Path) -> Iterator[list[str]]:
    target = str(out.parent / "made")
    yield ["report", str(out), "--output", target]
    yield ["status", str(out)]
    yield ["report", str(out), "--format", "csv", "--output", target]
    yield ["report", str(out), "--format", "latex", "--output", target]
    yield ["report", str(out), "--format", "html", "--output", target]
    yield ["report", str(out), "--table", "budget"]
    yield ["report", str(out), "--table", "2"]
    yield ["report", str(out), "--figure", "5", "--output", target + ".png"]
    yield ["report", str(out), "--figure", "cost", "--output", target + ".png"]
    yield ["report", str(out), "--figure", "inspection", "--output", target + ".png"]
    yield ["report", str(out), "--judge", "self_confidence"]
    yield ["compare", str(out), str(out)]
    yield ["baseline", "write", str(out), target]
    yield ["suspects", str(out), "--method", "self_confidence", "--task", "moons"]
    yield ["influential", str(out), "--method", "datainf", "--test", "0"]


def fuzzed(usual: Path, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(seed)
    out = tmp_path / "out"
    shutil.copytree(usual, out)
    kind = damage(out, rng)
    commands = list(looks(out))
    chosen = {0, 1, *rng.integers(2, len(commands), 2).tolist()}
    for place in sorted(chosen):
        argv = commands[place]
        try:
            with within(LIMIT):
                code = main(argv)
        except Exception as error:  # what the test is for
            raise AssertionError(f"seed {seed}, {kind}: {' '.join(argv[:4])}: {error!r}") from error
        told = capsys.readouterr()
        assert code in (0, 1, 2), (seed, kind, argv)
        assert "Traceback" not in told.err
    shutil.rmtree(out)
    assert {path.name for path in tmp_path.iterdir()} <= {"made", "made.png"}


@pytest.mark.parametrize("block", range(4))
def test_damaged_folders(usual: Path, tmp_path: Path, block: int, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(block, CASES, 4):
        fuzzed(usual, tmp_path, seed, capsys)


def test_damaged_baselines(usual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (usual.parent / "baseline.json").read_text()
    for seed in range(max(150, CASES // 2)):
        rng = np.random.default_rng(seed)
        text = json.dumps(mutated(json.loads(whole), rng)).encode() if seed % 2 else scrambled(whole.encode(), rng)
        (tmp_path / "b.json").write_bytes(text)
        pair = [str(tmp_path / "b.json"), str(usual)]
        for argv in (pair, pair[::-1]):
            try:
                with within(LIMIT):
                    code = main(["compare", *argv, "--format", "junit"])
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
            assert code in (0, 1, 2)
            told = capsys.readouterr()
            assert "Traceback" not in told.err
            if told.out:
                ElementTree.fromstring(told.out)
    assert {path.name for path in tmp_path.iterdir()} == {"b.json"}


def test_what_is_damaged_is_run_again(usual: Path, tmp_path: Path) -> None:
    """And only that; the other records stay as they are."""
    out = tmp_path / "out"
    shutil.copytree(usual, out)
    record = next(out.rglob("records/moons/self_confidence/*.json"))
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "metrics": {"accuracy": "much"}}))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("records/**/*.json") if path != record}
    store = Store(out)
    assert len(list(store.headers())) == len(before)
    assert "metrics is no dict[str, float]" in store.problems[0]
    harness.run("self_confidence,confident_learning,datainf,none", "moons[budget=0.05|0.1]", 2, preset="smoke", out=out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = json.loads(record.read_text())
    assert again["metrics"] == content["metrics"]
