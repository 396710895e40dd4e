"""Wrong calls and wrong files of `find`: one sentence each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.errors import RequestError
from tests.command_line import call
from tests.own_data import cancer, in_order

ODD: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "dict": (lambda t: harness.find({"a": 1}, [1]), "data= is a dict|labels needs one entry"),
    "none": (lambda t: harness.find(None, [1]), "labels needs one entry"),
    "short labels": (lambda t: harness.find(t, [1, 2]), "labels needs one entry per sample"),
    "two labels": (lambda t: harness.find(t, np.zeros((len(t), 2))), "labels needs one entry per sample"),
    "nan": (lambda t: harness.find(np.full((9, 2), np.nan), [0, 1, 2] * 3), "not finite"),
    "none flags": (lambda t: harness.find(t, "diagnosis", method="none"), "flags nothing"),
    "seeds": (lambda t: harness.find(t, "diagnosis", compare=True, seeds=1.5), "seeds=1.5 is not valid"),  # type: ignore[arg-type]
    "groups": (lambda t: harness.find(t, "diagnosis", groups=3), "groups= must be the name of a column"),  # type: ignore[arg-type]
    "groups of arrays": (
        lambda t: harness.find(t.iloc[:, :3].to_numpy(), t["diagnosis"].tolist(), groups="a"),
        "has no columns",
    ),
    "two samples": (lambda t: harness.find(t.iloc[:2], ["x", "y"]), "folds=5 needs 5 samples"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_calls_get_one_sentence(case: str) -> None:
    act, told = ODD[case]
    with pytest.raises(RequestError, match=told):
        act(cancer()[0])


def test_forms_of_arguments() -> None:
    table, _ = cancer()
    expected = harness.find(table, "diagnosis", ignore=["worst area"], method="self_confidence")
    for made in (
        harness.find(table, "diagnosis", ignore="worst area", method=harness.method("self_confidence")),  # type: ignore[arg-type]
        harness.find(table.rename(columns={"diagnosis": 4}), 4, ignore=["worst area"], method="self_confidence"),
    ):
        np.testing.assert_allclose(in_order(made, "score"), in_order(expected, "score"))
    text = table.assign(site=pd.Categorical(np.where(np.arange(len(table)) % 3, "a long text of several words", None)))
    assert len(
        harness.find(text.assign(site=text["site"].astype(str) + " " + text.index.astype(str)), "diagnosis")
    ) == len(table)
    gaps = table.assign(patient=[None if k % 5 else k for k in range(len(table))])
    assert len(harness.find(gaps, "diagnosis", groups="patient")) == len(table)


WRONG: dict[str, tuple[list[str], str]] = {
    "no file": (["nowhere.csv", "--labels", "y"], "nowhere.csv is not there"),
    "no labels": (["data.csv"], "--labels is missing"),
    "wrong column": (["data.csv", "--labels", "diagnosys"], "did you mean 'diagnosis'?"),
    "wrong ignore": (["data.csv", "--labels", "diagnosis", "--ignore", "mean radios"], "did you mean 'mean radius'?"),
    "a number column": (["data.csv", "--labels", "mean radius"], "mean radius must be integers, booleans or text"),
    "one class": (["one.csv", "--labels", "y"], "all labels are of one class, a"),
    "damaged": (["torn.parquet", "--labels", "y"], "torn.parquet cannot be read as parquet"),
    "unknown form": (["data.xlsx", "--labels", "y"], "is of no known form"),
    "pickle": (["objects.npz"], "it holds Python objects, which are not read"),
    "empty folder": (["empty"], "in sub-folders, one per class"),
    "over the input": (["data.csv", "--labels", "diagnosis", "--clean", "data.csv"], "is the input"),
    "over another": (["data.csv", "--labels", "diagnosis", "--clean", "one.csv"], "one.csv exists already"),
    "method": (["data.csv", "--labels", "diagnosis", "--method", "self_confidense"], "did you mean 'self_confidence'?"),
    "no reference": (["data.csv", "--labels", "diagnosis", "--method", "datainf"], "datainf cannot score this data"),
    "folds": (["tiny.csv", "--labels", "y", "--folds", "9"], "folds=9 needs 9 samples, and there are 4"),
    "trailing commas": (["trailing.csv", "--labels", "y"], "lines have more fields than the header"),
    "semicolons": (["semi.csv", "--labels", "y"], "separated by semicolons"),
    "two names": (["twice.csv", "--labels", "y"], "two columns are called 'x'"),
    "latin": (["latin.csv", "--labels", "y"], "is not in UTF-8"),
    "json array": (["array.jsonl", "--labels", "y"], "one JSON object per line"),
    "folder": (["nowhere/", "--labels", "y"], "is not there"),
    "no groups": (["objects.npz", "--groups", "a"], "has no columns"),
    "none": (["data.csv", "--labels", "diagnosis", "--method", "none"], "flags nothing"),
    "how": (["data.csv", "--labels", "diagnosis", "--clean-how", "mark"], "goes with --clean FILE"),
    "one file": (["data.csv", "--labels", "diagnosis", "--clean", "x.csv", "--output", "x.csv"], "name one file"),
    "inside": (["photos", "--output", "photos/metadata.csv"], "lies in the folder of the data"),
    "no such folder": (["data.csv", "--labels", "diagnosis", "--clean", "no/x.csv"], "there is no folder"),
    "format": (["data.csv", "--labels", "diagnosis", "--clean", "x.xml"], "has no known format"),
    "no column": (["bare.csv", "--labels", "y"], "has no column left to learn from"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wrong")
    cancer()[0].to_csv(path / "data.csv", index=False)
    (path / "one.csv").write_text("x,y\n1,a\n2,a\n")
    (path / "tiny.csv").write_text("x,y\n5,a\n2,a\n3,b\n4,b\n")
    (path / "bare.csv").write_text("y\na\nb\n")
    (path / "torn.parquet").write_bytes(b"PAR1 not really")
    (path / "data.xlsx").write_bytes(b"PK")
    np.savez(path / "objects.npz", labels=np.array([{"a": 1}, None], dtype=object))
    (path / "trailing.csv").write_text("y,x\na,1,5\nb,2,6\n")
    (path / "semi.csv").write_text("x;y\n1;a\n2;b\n")
    (path / "twice.csv").write_text("x,x,y\n1,2,a\n2,3,b\n")
    (path / "latin.csv").write_bytes("x,y\ncaf\xe9,a\nb,b\n".encode("latin-1"))
    (path / "array.jsonl").write_text('[{"x": 1, "y": "a"}]')
    (path / "photos").mkdir()
    (path / "empty").mkdir()
    return path


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_sentence(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments, told = WRONG[case]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    code, _, err = call(capsys, "find", *arguments)

    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_file_that_disappears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders such as /proc change while they are read."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "gone.png").write_bytes(b"")
    lstat = os.lstat

    def gone(path: Any, **options: Any) -> Any:
        if str(path).endswith("gone.png"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", gone)
    with pytest.raises(RequestError, match=r"cannot be read: No such file or directory: .*gone\.png"):
        harness.find(str(tmp_path))
