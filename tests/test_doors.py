"""The doors for what is stored: each kind of damage has its reason, and is the same for every command."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.records.schema import DEEPEST, HUGE, LONGEST_NAME, Damaged, parsed
from harness.records.score_arrays import arrays_of, check_arrays
from harness.records.store import Store, state_of
from harness.selection.plan import make_plan
from tests.test_damage import nested

METHODS, TASKS, SEEDS = "self_confidence,datainf,none", "moons", 2


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("usual") / "out"
    harness.run(METHODS, TASKS, SEEDS, preset="smoke", out=out)
    assert main(["baseline", "write", str(out), str(out.parent / "baseline.json")]) == 0
    return out


@pytest.fixture
def out(usual: Path, tmp_path: Path) -> Path:
    shutil.copytree(usual, tmp_path / "out")
    return tmp_path / "out"


def states(out: Path) -> Counter[str]:
    store = Store(out)
    cells = make_plan(METHODS, TASKS, range(SEEDS), "fair", "smoke")
    return Counter(state_of(store.find(cell), cell) for cell in cells)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_train": None}, "no number of training samples"),
        ({"seed": -1}, "seed is out of range"),
        ({"cost": {"scoring": -1.0}}, "cost holds no times"),
        ({"total_seconds": "long"}, "total_seconds is no float"),
        ({"total_seconds": 2 * HUGE}, "total_seconds is no time"),
        ({"preset": "huge"}, "preset is none of"),
        ({"health": {"solve": {"converged": False}}}, "a solve without residual"),
        ({"health": {"left_behind": 3}}, "left_behind is no list of texts"),
        ({"health": {"left_behind": [3]}}, "left_behind is no list of texts"),
        ({"another": 1}, "unknown field 'another'"),
        ({"uses": [1]}, "uses is no list[str]"),
        ({"metrics": {"accuracy": 5e300}}, "a metric too large"),
        ({"curves": {"loss_by_epoch": [1.0, -5e300]}}, "a curve too large"),
        ({"task_params": {"budget": "x"}}, "budget is no number"),
        ({"method_title": "x" * (LONGEST_NAME + 1)}, "method_title has 2,001 characters"),
        *(({"versions": {"schema": odd}}, "schema is no whole number") for odd in (2.5, "2", True, None, math.inf)),
    ],
)
def test_each_reason_is_told(out: Path, change: dict[str, Any], reason: str) -> None:
    record = next(out.rglob("records/moons/datainf/*.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    store = Store(out)

    assert record not in [store.scores_file(each).with_suffix(".json") for each in store.headers()]
    assert len(store.problems) == 1
    assert reason in store.problems[0]
    assert states(out) == {"ok": 5, "missing": 1}


def test_a_newer_programs_record_says_so(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = next(out.rglob("records/moons/none/*.json"))
    content = json.loads(record.read_text())
    content["versions"]["schema"] = 99
    record.write_text(json.dumps(content))

    assert main(["report", str(out)]) == 0
    assert "a newer version of this program wrote it (schema 99" in capsys.readouterr().out


def one_short(arrays: dict[str, np.ndarray]) -> None:
    arrays["scores"] = arrays["scores"][:-1]


def without_scores(arrays: dict[str, np.ndarray]) -> None:
    del arrays["scores"]


def as_texts(arrays: dict[str, np.ndarray]) -> None:
    arrays["scores"] = arrays["scores"].astype(str)


@pytest.mark.parametrize("change", [one_short, without_scores, as_texts], ids=lambda change: change.__name__)
def test_scores_that_do_not_fit_are_computed_again(
    out: Path, change: Callable[[dict[str, np.ndarray]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Though their checksum is right."""
    record = next(out.rglob("records/moons/datainf/*.json"))
    file = record.with_suffix(".npz")
    right = file.read_bytes()
    with np.load(file) as loaded:
        arrays = dict(loaded)
    change(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    file.write_bytes(buffer.getvalue())
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    record.write_text(json.dumps({**json.loads(record.read_text()), "scores_sha256": checksum}))

    assert states(out) == {"ok": 5, "missing": 1}
    assert main(["status", str(out)]) == 0
    assert "damaged: " in capsys.readouterr().out
    harness.run(METHODS, TASKS, SEEDS, preset="smoke", out=out)
    assert states(out) == {"ok": 6}
    with np.load(io.BytesIO(right)) as before, np.load(file) as after:
        np.testing.assert_array_equal(before["scores"], after["scores"])


def test_links_to_nowhere(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("/nowhere", out / "requests" / "z.json")
    record = next(out.rglob("records/moons/datainf/*.json"))
    record.unlink()
    os.symlink("/nowhere", record)

    for command in (["status"], ["report"], ["suspects", "--method", "self_confidence", "--seed", "0"]):
        code = main([command[0], str(out), *command[1:]])
        assert code in (0, 2)
        told = capsys.readouterr()
        assert command[0] == "suspects" or "z.json: not a readable request" in told.out + told.err


def test_the_door_itself() -> None:
    assert parsed('{"a": [1.12345678901234567, 1]}') == {"a": [1.12345678901234567, 1]}
    assert parsed('{"\\u001b[31ma": ["\\u009b", "x\\ny\\tz\\rw", "\\uffff", "ä"]}') == {
        "�[31ma": ["�", "x\ny\tz�w", "�", "ä"]
    }
    for text in (
        "[]",
        "nothing",
        '{"a": ' + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1) + "}",
        '{"a": ' + "[" * 100_000,
        '{"a": "\\ud800"}',
        '{"a": 99999999999999999999}',
        '{"a": "' + "x" * 1_000_001 + '"}',
    ):
        with pytest.raises(Damaged):
            parsed(text)


@pytest.mark.parametrize("door", [arrays_of, check_arrays])
def test_the_door_for_scores(door: Callable[[bytes, int | None], object]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, scores=np.zeros(3), flagged=np.zeros(3, bool), unknown=np.zeros(9))
    content = buffer.getvalue()
    door(content, 3)
    door(content, None)
    for n in (2, 4):
        with pytest.raises(Damaged, match=r"lengths \[3\]"):
            door(content, n)
    with pytest.raises(Damaged):
        door(content[:-30], 3)


# --- baselines


def first_metric(baseline: dict[str, Any]) -> dict[str, Any]:
    metrics = next(iter(baseline["sections"][0]["methods"].values()))
    return next(values for name, values in metrics.items() if name not in ("params", "status"))


ODD_VALUES: list[Any] = [10**400, 5e300, True, "0.5", None, [0.5], nested(600)]


@pytest.mark.parametrize("odd", ODD_VALUES, ids=lambda odd: repr(odd)[:12])
@pytest.mark.parametrize("form", ["text", "md", "junit"])
def test_a_baselines_odd_value_is_one_sentence(
    usual: Path, tmp_path: Path, odd: Any, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = json.loads((usual.parent / "baseline.json").read_text())
    first_metric(baseline)["0"] = odd
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(baseline))

    for pair in ([str(path), str(usual)], [str(usual), str(path)]):
        assert main(["compare", *pair, "--format", form]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "is not a readable baseline" in told


@pytest.mark.parametrize("name", ["\ud800half", "x" * (LONGEST_NAME + 1)])
def test_a_baselines_odd_name_is_one_sentence(
    usual: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = json.loads((usual.parent / "baseline.json").read_text())
    methods = baseline["sections"][0]["methods"]
    methods[name] = methods.pop(next(iter(methods)))
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(baseline))

    assert main(["compare", str(path), str(usual)]) == 2
    assert "is not a readable baseline" in capsys.readouterr().err


# --- what is shown

TAG = "<script>alert(1)</script>"
EVIL = f"\x1b[31m\x07\x9b2J{TAG}\ufffe"


def evil(record: dict[str, Any]) -> None:
    for name in ("method_title", "task_title", "device", "device_name", "torch", "python", "commit", "utc"):
        record[name] = EVIL + record[name]
    record["method_spec"] = f"{record['method']}[x=`{EVIL}]"
    record["task_spec"] = f"moons[x={EVIL}`]"
    record["uses"] = [EVIL]
    record["metrics"][EVIL] = 0.5
    if record["method"] == "none":
        record |= {"status": "failed", "error": f"{EVIL}\n\n{EVIL}`", "scores_sha256": None, "metrics": {}}


@pytest.fixture
def hostile(out: Path) -> Path:
    """A folder whose every text tries to move a cursor, end a code span, or be a tag."""
    for path in out.rglob("records/*/*/*.json"):
        record = json.loads(path.read_text())
        evil(record)
        path.write_text(json.dumps(record))
    request = next((out / "requests").glob("*.json"))
    content = json.loads(request.read_text())
    content["command"] = f"```\n{TAG}\n\x1b[2J```"
    request.write_text(json.dumps(content))
    (out / "records" / "moons" / "\x1b[31mred").mkdir()
    (out / "records" / "moons" / "\x1b[31mred" / "x.json").write_text("{")
    return out


LOOKS = [
    ["report"],
    *(["report", "--format", form] for form in ("html", "latex", "csv")),
    ["report", "--wide"],
    ["status"],
    ["suspects", "--method", "self_confidence*", "--seed", "0"],
    *(["compare", "--format", form] for form in ("text", "md", "junit")),
]


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_nothing_evil_is_shown(hostile: Path, look: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = [str(hostile)] if look[0] == "compare" else []
    assert main([look[0], str(hostile), *other, *look[1:]]) in (0, 1, 2)
    told = capsys.readouterr()
    text = told.out + told.err

    assert not {"\x1b", "\x07", "\x9b", "\ufffe"} & set(text)
    if "junit" in look:
        ElementTree.fromstring(told.out)
    elif "html" in look:
        assert TAG not in text
    elif look in (["report"], ["report", "--wide"], ["compare", "--format", "md"]):
        from markdown_it import MarkdownIt

        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        inner = [child.type for token in tokens for child in token.children or []]
        assert "html_inline" not in inner
        assert "html_block" not in [token.type for token in tokens]
