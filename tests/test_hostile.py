"""Methods and tasks that do what they should not are rows with a reason, and change nobody else's scores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.randomness import global_seed
from harness.records.store import Record, Store
from harness.running.left_behind import Watch, digest
from harness.selection.registry import METHODS, TASKS
from reports.markdown import report
from tests import hostile_methods
from tests.command_line import ROOT
from tests.hostile_methods import EXPECTED, LEFT
from tests.runs import run

PLUGIN = str(Path(hostile_methods.__file__))
GOOD = "good_probs,good_norms,self_confidence,outlier_l2,datainf"

TASK = """
import os
from dataclasses import dataclass
import numpy as np
import torch
from tasks.synthetic import Moons

class Odd(BaseException):
    pass

@dataclass(frozen=True)
class Broken(Moons):
    name = "broken"
    how: str = "exit"

    def load(self, seed):
        if self.how == "dtype":
            torch.set_default_dtype(torch.float64)
        if self.how == "patch":
            torch.Tensor.backward = None
            np.linalg.norm = np.sum
        if self.how == "exit":
            os._exit(5)
        if self.how == "raise":
            raise Odd("no data")
        return super().load(seed)

    def train(self, *args):
        if self.how in ("dtype", "patch"):
            return super().train(*args)
        raise KeyboardInterrupt("of the task")

    def train_all(self, *args):
        return super().train_all(*args) if self.how in ("dtype", "patch") else self.train()
"""


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (METHODS, TASKS):
        monkeypatch.setattr(registry, "_classes", dict(registry.classes()))


def by_cell(out: Path) -> dict[tuple[str, int], tuple[Record, dict[str, np.ndarray]]]:
    return {(record.method, record.seed): (record, arrays) for record, arrays in Store(out).records()}


@pytest.mark.parametrize(("jobs", "seeds"), [(1, 1), *([(2, 2)] if "HARNESS_FUZZ" in os.environ else [])])
def test_hostile_methods_among_good_ones(tmp_path: Path, jobs: int, seeds: int) -> None:
    methods = ",".join([*EXPECTED, *LEFT, GOOD])
    data = run(tmp_path / "all", methods, seeds=seeds, plugins=[PLUGIN], isolate=True, timeout=8, memory=3, jobs=jobs)
    run(tmp_path / "good", GOOD, seeds=seeds, plugins=[PLUGIN], jobs=jobs)
    found, alone = by_cell(tmp_path / "all"), by_cell(tmp_path / "good")
    for key, (record, arrays) in alone.items():
        mine, own = found[key]
        assert (mine.status, mine.scores_sha256, mine.metrics) == ("ok", record.scores_sha256, record.metrics), key
        assert own["scores"].tobytes() == arrays["scores"].tobytes()
    for seed in range(seeds):
        for name, (status, told) in EXPECTED.items():
            record = found[name, seed][0]
            assert record.status == status, (name, record.error)
            assert told in record.error
            assert len(record.error) < 2_200
        for name, what in LEFT.items():
            record = found[name, seed][0]
            assert record.status == "ok", (name, record.error)
            assert what in record.health["left_behind"], (name, record.health)
    assert len(found) == seeds * (len(EXPECTED) + len(LEFT) + 5)
    assert "left changed in its process: the default dtype" in report(data)
    time.sleep(0.2)
    assert b"sleep 1117" not in subprocess.run(["ps", "ax"], capture_output=True, check=True).stdout


def test_a_hostile_task_fails_its_cells_alone(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(TASK)
    tasks = "broken[how=exit],broken[how=raise],broken[how=train],moons"
    run(tmp_path / "out", "outlier_l2,random", tasks, 2, plugins=[str(path)], isolate=True)
    told = {record.task_spec: (record.status, record.error) for record, _ in Store(tmp_path / "out").records()}
    assert told["moons"] == ("ok", "")
    assert told["broken"] == ("failed", "the process ended during train with exit code 5")
    assert told["broken[how=raise]"][0] == "failed"
    assert "Odd: no data" in told["broken[how=raise]"][1]
    assert "KeyboardInterrupt: of the task" in told["broken[how=train]"][1]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_hostile_task_leaves_behind_reaches_no_other_task(tmp_path: Path, jobs: int) -> None:
    path = tmp_path / "broken.py"
    path.write_text(TASK)
    methods = "self_confidence,outlier_l2,datainf,lissa"
    run(tmp_path / "alone", methods, "moons,blobs", 1, isolate=True)
    tasks = "broken[how=dtype],moons,broken[how=patch],blobs"
    run(tmp_path / "among", methods, tasks, 1, plugins=[str(path)], isolate=True, jobs=jobs)

    alone, among = (
        {
            (record.task, record.method): (record.status, arrays["scores"].tobytes(), record.metrics)
            for record, arrays in Store(tmp_path / name).records()
            if record.task != "broken"
        }
        for name in ("alone", "among")
    )
    assert len(alone) == 8
    assert among == alone


def test_without_isolation_all_but_an_interruption_is_a_row(tmp_path: Path) -> None:
    run(tmp_path / "out", "odd_exception,generator_exit,self_confidence", plugins=[PLUGIN])
    statuses = {record.method: record.status for record, _ in Store(tmp_path / "out").records()}
    assert statuses == {"odd_exception": "failed", "generator_exit": "failed", "self_confidence": "ok"}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", "interrupting", plugins=[PLUGIN])


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "GeneratorExit", "BaseException", "SystemExit"])
def test_a_plugin_that_raises_at_import_is_one_sentence(
    tmp_path: Path, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raising.py"
    path.write_text(f"raise {error}('at import')\n")
    code = main(["run", "--plugin", str(path), "--out", str(tmp_path / "out"), "--preset", "smoke"])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert code == (130 if error == "KeyboardInterrupt" else 2)  # an interruption may be the user's
    assert error == "KeyboardInterrupt" or f"cannot be imported: {error}: at import" in told


def test_several_processes_give_the_same_results(tmp_path: Path) -> None:
    methods = "outlier_l2,lissa,random"
    run(tmp_path / "one", methods, "moons,blobs", 3)
    run(tmp_path / "two", methods, "moons,blobs", 3, isolate=True, jobs=2)
    one, two = (
        {record.slot: record.metrics for record, _ in Store(tmp_path / name).records()} for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    for slot, metrics in one.items():
        assert two[slot] == pytest.approx(metrics, abs=1e-9)


@pytest.mark.parametrize("memory", [0, -1, "much"])
def test_memory_is_a_positive_number(tmp_path: Path, memory: object) -> None:
    with pytest.raises(RequestError, match=r"--memory .* give a positive number of GiB"):
        harness.run("random", "moons", 1, preset="smoke", out=tmp_path, memory=memory)  # type: ignore[arg-type]


def test_a_watch_sees_shuffled_rows_and_nothing_where_nothing_happens() -> None:
    rows = np.arange(12.0).reshape(4, 3)
    with Watch({"the rows": rows, "nothing": None}) as quiet:
        rows.sum()
    assert (quiet.changed, quiet.restored, quiet.remaining) == ([], [], [])
    with Watch({"the rows": rows, "nothing": None}) as watch:
        rows[:] = rows[::-1].copy()
    assert watch.changed == ["the rows"]
    assert digest({"a": [rows]}) == digest({"a": (rows.copy(),)})


def test_every_tensor_has_a_digest() -> None:
    odd = [
        torch.zeros(()),
        torch.zeros(0, 3),
        torch.arange(3.0).reshape(1, 3).t()[:1],
        torch.arange(12.0).reshape(3, 4).t(),
        torch.ones(5, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.bool),
        torch.ones(3, dtype=torch.complex64),
        torch.eye(3).to_sparse(),
        np.zeros(0),
        np.array(["text"]),
        np.asfortranarray(np.ones((3, 2))),
        np.float64(1).reshape(()),
    ]
    assert len({digest(value) for value in odd[2:7]}) == 5
    assert all(digest(value) == digest([value]) for value in odd)
    with global_seed(0):
        weights = torch.nn.Linear(2, 2)
    before = digest(weights)
    with torch.no_grad():
        weights.bias += 1
    assert digest(weights) != before


def test_processes_work_where_the_first_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server has started somewhere else, with another environment."""
    run(tmp_path / "first", "random", isolate=True)
    path = tmp_path / "where.py"
    path.write_text(
        "import os\n"
        "def where(view):\n"
        "    view.health['where'] = [os.getcwd(), os.environ['MINE']]\n"
        "    return view.labels\n"
    )
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("MINE", "yes")
    run(tmp_path / "out", "where", plugins=[str(path)], isolate=True)
    ((record, _),) = Store(tmp_path / "out").records()
    assert record.health["where"] == [str(tmp_path / "there"), "yes"]
    run(tmp_path / "again", "where", isolate=True)  # as this process knows the plug-in already
    ((record, _),) = Store(tmp_path / "again").records()
    assert record.status == "ok"


def test_warnings_of_a_plugin_are_seen(tmp_path: Path) -> None:
    """Also where a library that the fork server has imported silences them."""
    path = tmp_path / "warning.py"
    path.write_text("import warnings\ndef warning(view):\n    warnings.warn('mind the gap')\n    return view.labels\n")
    command = [sys.executable, "-m", "harness", "run", "--plugin", str(path), "--methods", "warning", "--seeds", "1"]
    command += ["--preset", "smoke", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "note: mind the gap\n" in done.stderr
