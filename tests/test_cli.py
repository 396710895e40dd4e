"""The command line as a user meets it: help, wrong requests, status, reports, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.selection.registry import METHODS
from tests.command_line import ROOT, call


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"], ["list", "protocols"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'scipy', 'cleanlab', 'matplotlib', 'joblib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version_is_the_commit_or_the_release(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert re.fullmatch(r"influence-harness ([0-9a-f]{12,}(-dirty)?|v[0-9.]+)\n", out)


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0
    for name in (*METHODS.classes(), "moons", "blobs", "digits", "cifar10n"):
        assert f"\n{name}\n" in out
    assert "damping=auto (float|auto)" in out
    assert "uses: labels, gradients, clean validation" in out
    assert "needs: `python -m harness data fetch cifar10n` downloads it (165 MiB), or put cifar-10-batches-py" in out
    assert "lissa: reference=train, sign=-1, damping_sign=-1" in out


def test_list_shows_a_broken_plugin_with_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found")
    code, out, _ = call(capsys, "list", "--plugin", str(tmp_path / "broken.py"))
    assert code == 0
    assert "unavailable: " in out
    assert "No module named 'nowhere_to_be_found'" in out


WRONG = {
    "unknown method": (["--methods", "datainv"], "unknown method 'datainv' (did you mean 'datainf'?)"),
    "unknown task": (["--tasks", "mons"], "unknown task 'mons' (did you mean 'moons'?)"),
    "unknown parameter": (
        ["--methods", "lissa[iteration=3]"],
        "lissa has no parameter 'iteration' (did you mean 'iterations'?)",
    ),
    "bad value": (
        ["--methods", "datainf[damping=small]"],
        "datainf[damping=small] is not valid; damping takes float|auto",
    ),
    "impossible value": (["--tasks", "moons[budget=2]"], "moons: budget=2.0 must be a share in [0, 1)"),
    "empty selection": (["--methods", "lissa,-lissa"], "the selection 'lissa,-lissa' leaves no method"),
    "no seeds": (["--seeds", "none"], "--seeds none is not valid; give a number of seeds such as 5, or a list"),
    "missing data": (["--tasks", "cifar10n"], "cifar10n needs its data: "),
    "no data folder": (["--tasks", "cifar10n", "--data-dir", "/nowhere"], "--data-dir /nowhere is not there"),
    "no plugin": (["--plugin", "absent.py"], "absent.py: there is no such file"),
    "no device": (["--device", "tpu"], "--device tpu is not a device; give auto, cpu, cuda or cuda:N"),
    "bad protocol": (["--protocol", "fare"], "invalid choice: 'fare' (did you mean 'fair'?); choose from fair, paper"),
    "bad jobs": (["--jobs", "0"], "--jobs 0 is not valid; give at least 1"),
    "bad timeout": (["--timeout", "-1"], "--timeout -1.0 is not valid"),
    "infinite value": (
        ["--methods", "datainf[damping=inf]"],
        "datainf[damping=inf] is not valid; damping takes float|auto",
    ),
    "no test samples": (["--tasks", "moons[n_test=50]"], "moons: n_test=50 must exceed n_validation=100"),
    "huge seed": (["--seeds", "0,99999999999999999999"], "is not valid; give a number of seeds such as 5"),
    "too many seeds": (["--seeds", "1000000000"], "is not valid; give a number of seeds such as 5"),
    "no memory": (["--memory", "0"], "--memory 0.0 is not valid; give a positive number of GiB"),
    "contradiction": (["--scheduler", "tcp://x:1"], "--scheduler tcp://x:1 goes with --backend dask, not loky"),
    "names with spaces": (["--methods", "aum", "datainf"], "datainf; join names by commas, without spaces: --methods"),
    "unknown option": (["--method", "x", "--sedes", "3"], "unrecognized arguments: --sedes 3"),
    "unclosed bracket": (["--methods", "lissa[iterations=3"], "has unbalanced brackets"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_get_one_sentence_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    arguments, sentence = WRONG[case]
    code, out, err = call(capsys, "run", "--out", str(tmp_path / "out"), *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1, "more than one line"
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists(), "something was written"


def test_an_output_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = call(capsys, "run", "--methods", "none", "--seeds", "1", "--out", str(tmp_path / ("x" * 300)))
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be used: File name too long" in err

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _, err = call(capsys, "run", "--methods", "none", "--seeds", "1", "--out", str(tmp_path / "out"))
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be used: Permission denied" in err


def test_a_folder_in_the_way_of_our_packages(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "tasks.py stands in the way of the harness's own package 'tasks'" in done.stderr


def test_a_plugin_with_a_syntax_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("class (:\n")
    code, _, err = call(capsys, "run", "--plugin", str(tmp_path / "bad.py"), "--out", str(tmp_path / "out"))
    assert (code, err.count("\n")) == (2, 1)
    assert "invalid syntax (line 1 of" in err


@pytest.mark.parametrize("command", [["report"], ["status"], ["report", "--format", "csv"]])
def test_folders_without_results(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    code, out, err = call(capsys, *command, str(tmp_path / "absent"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "does not exist" in err


def test_dry_run_says_and_does_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["run", "--methods", "outlier_*", "--tasks", "moons", "--seeds", "2", "--out", str(tmp_path / "out")]
    code, out, err = call(capsys, *arguments, "--dry-run")
    assert code == 0
    assert len(out.splitlines()) == 6
    assert "6 of 6 cells would run" in err
    assert not (tmp_path / "out").exists()
    call(capsys, *arguments, "--preset", "smoke")
    _, out, err = call(capsys, *arguments, "--preset", "smoke", "--dry-run")
    assert (out, "0 of 6" in err) == ("", True)


def test_run_prints_its_tables_on_standard_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = call(
        capsys, "run", "--methods", "none,outlier_l2", "--seeds", "2", "--preset", "smoke", "--out", str(tmp_path / "o")
    )
    assert code == 0
    assert "outlier_l2" in out
    assert "Precision at" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "4 cells: 4 ok" in err
    assert "moons seed" in err
    code, again, err = call(
        capsys, "run", "--methods", "none,outlier_l2", "--seeds", "2", "--preset", "smoke", "--out", str(tmp_path / "o")
    )
    assert (code, again) == (0, out)
    arguments = ["--methods", "none,outlier_l2", "--seeds", "2", "--preset", "smoke", "--out", str(tmp_path / "o")]
    code, wide, _ = call(capsys, "run", *arguments, "--wide")
    assert "| Outlier Gradient (L2) |" in wide
    code, status, _ = call(capsys, "status", str(tmp_path / "o"))
    assert "--methods none,outlier_l2" in status
    assert "4 cells: 4 ok" in status


def test_a_failing_method_exits_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr(METHODS.get("outlier_l1"), "score", fail)
    arguments = [
        "run",
        "--no-isolate",
        "--methods",
        "none,outlier_l1",
        "--seeds",
        "1",
        "--preset",
        "smoke",
        "--out",
        str(tmp_path / "o"),
    ]
    code, out, err = call(capsys, *arguments)
    assert code == 1
    assert "failed in 1 of 1 seeds: ValueError: on purpose" in out
    assert "1 cell failed; --rerun failed tries them again" in err
    assert call(capsys, *arguments)[0] == 1
    _, status, _ = call(capsys, "status", str(tmp_path / "o"))
    assert "2 cells: 1 failed, 1 ok" in status
    assert "failed: moons × outlier_l1 seed 0: ValueError: on purpose" in status


def test_status_tells_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o"
    call(capsys, "run", "--methods", "none,outlier_l1", "--seeds", "2", "--preset", "smoke", "--out", str(out))
    next(out.rglob("seed1-*.json")).unlink()
    torn = next(path for path in out.rglob("records/**/seed0-*.json"))
    torn.write_text("{")
    _, status, _ = call(capsys, "status", str(out))
    assert "4 cells: 2 missing, 2 ok" in status
    assert f"damaged: {torn}" in status


@pytest.mark.parametrize("name", ["methods", "tasks", "reports"])
def test_folders_with_our_packages_names_are_no_hindrance(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for arguments in (["list", "methods"], ["list", "tasks"], ["report", "absent"]):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == (2 if "absent" in arguments else 0), done.stderr
        assert "Traceback" not in done.stderr

    (tmp_path / name / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list", "methods"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (0 if name == "tasks" else 2)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or f"stands in the way of the harness's own package {name!r}" in done.stderr


def test_another_projects_module_of_our_name_that_fails(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from invoke_not_here import task\n")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "tasks.py stands in the way of the harness's own package 'tasks'" in done.stderr
    assert "Traceback" not in done.stderr


def test_figure_2_of_what_has_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    np.savez(tmp_path / "f.npz", features=np.random.default_rng(0).random((40, 3)), labels=np.arange(40) % 2)
    harness.run("outlier_iforest", f"arrays[path={tmp_path}/f.npz]", 1, preset="smoke", out=tmp_path / "o")
    code, _, err = call(capsys, "report", str(tmp_path / "o"), "--figure", "2")
    assert code == 2
    assert "no task there has images" in err


def test_without_a_command_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys)
    assert (code, err) == (0, "")
    assert "python -m harness find" in out
    assert max(map(len, out.splitlines())) <= 80
