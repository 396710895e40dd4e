"""Prompts and sentences from files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from tasks._prompt_files import read_set
from tasks._prompt_sets import Prompt, word_problems
from tests.prompt_sets import SIZES, SMALL, small


def write_set(folder: Path, name: str = "math_without_reason") -> None:
    for split, count, seed in (("train", 6, 1), ("test", 3, 2)):
        rows = [
            {"prompt": p.prompt, "text": f"{p.prompt}{p.answer}</s>", "answer": 1, "variation": p.kind}
            for p in word_problems(count, False, seed)
        ]
        (folder / f"{name}_{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")


def test_prompts_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=r"prompts=files needs math_without_reason_train\.jsonl or"):
        small(prompts="files").check()
    (tmp_path / "prompts").mkdir()
    write_set(tmp_path / "prompts")
    task = small(prompts="files")
    task.check()
    split, _ = task.load(0)
    assert (len(split.train), len(split.test)) == (50, 20)
    assert task.texts(0)["train"][:5] == [f"{p.prompt}{p.answer}" for p in word_problems(6, False, 1)[:5]]
    before = task.data_version()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "file").touch()
    assert task.data_version() == before  # a folder called tiny is not the model
    lines = (tmp_path / "prompts" / "math_without_reason_test.jsonl").read_text("utf-8").splitlines()
    odd = {**json.loads(lines[0]), "variation": "another"}
    (tmp_path / "prompts" / "math_without_reason_test.jsonl").write_text("\n".join([*lines, json.dumps(odd)]), "utf-8")
    assert task.data_version() != before
    with pytest.raises(RequestError, match="no training prompt is of the test prompts' class 'another'"):
        task.check()


def test_line_ends_of_other_kinds_belong_to_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    row = {"prompt": "One\u2028two \x85-> ", "text": "One\u2028two \x85-> three", "variation": "odd"}
    content = f"{json.dumps(row, ensure_ascii=False)}\r\n\n{json.dumps(row)}\n"
    (tmp_path / "grammars_train.jsonl").write_bytes(content.encode())
    assert read_set("grammars", "train") == 2 * [Prompt("One\u2028two \x85-> ", "three", "odd")]


def test_prompts_that_datasets_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    made = word_problems(2, True, 0)
    rows = [{"prompt": p.prompt, "text": f"{p.prompt}{p.answer}</s>", "variation": p.kind} for p in made]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "math_with_reason_train.hf"))
    assert read_set("math_with_reason", "train") == made
    (tmp_path / "math_with_reason_test.hf").mkdir()
    with pytest.raises(RequestError, match="is no folder that `datasets` saved"):
        read_set("math_with_reason", "test")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 is no object with prompt, text and variation"),
        ('{"prompt": "a", "text": "ab"}', "line 1 has no variation, or one that is no text; it has prompt, text"),
        ('{"prompt": "a", "text": "b", "variation": "c"}', "line 1: the text does not begin with the prompt"),
        ("", "has no prompts"),
    ],
)
def test_lines_that_are_no_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, sentence: str) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    (tmp_path / "grammars_train.jsonl").write_text(line + "\n", "utf-8")
    with pytest.raises(RequestError, match=sentence):
        read_set("grammars", "train")


def test_sentences_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(f"This is sentence {i}." for i in range(7)), "utf-8")
    task = harness.task("prompts_sentences", preset="smoke", **{**SMALL, "sentences": str(path)})
    train, test = task._sets(0)
    told = {p.prompt.rpartition("\n")[2].strip().removesuffix(" ->") for p in (*train, *test)}
    assert told == {f"This is sentence {i}." for i in range(7)}
    with pytest.raises(RequestError, match="8 prompts a class need as many sentences; there are 7"):
        replace(task, per_class=6)._sets(0)
    with pytest.raises(ValueError, match=r"belongs to prompts=generated; files have their own"):
        replace(task, prompts="files")
    with pytest.raises(RequestError, match="cannot be read as text"):
        replace(task, sentences=str(tmp_path / "none"))._sets(0)
    with pytest.raises(RequestError, match=r"pretraining_per_class=99999\]: 99999 prompts a class need as many"):
        replace(task, pretraining_per_class=99999).check()
    before = task.data_version()
    path.write_text("\n".join(f"This is another sentence {i}." for i in range(7)), "utf-8")
    assert before != task.data_version() != ""


def test_other_files_below_the_data_folder_are_other_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys hash the files of --data-dir, and the same folder is found again by every command."""
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    data, out = tmp_path / "data", str(tmp_path / "out")
    data.mkdir()
    write_set(data)
    task = f"prompts_math[prompts=files,{SIZES}]"
    run = ["run", "--methods", "gradient_tracing", "--tasks", task, "--preset", "smoke", "--seeds", "1", "--out", out]
    assert main([*run, "--data-dir", str(data)]) == 0
    assert main([*run, "--data-dir", str(data), "--dry-run"]) == 0
    assert "0 of 1 cell would run" in capsys.readouterr().err
    shown = ["influential", out, "--method", "gradient_tracing", "--data-dir", str(data)]
    assert main(shown) == 0
    assert main(["status", out, "--data-dir", str(data)]) == 0
    assert "1 ok" in capsys.readouterr().out
    lines = (data / "math_without_reason_test.jsonl").read_text("utf-8").replace("Solve", "Do solve")
    (data / "math_without_reason_test.jsonl").write_text(lines, "utf-8")
    assert main(shown) == 2
    assert "the data at hand is not what prompts_math" in capsys.readouterr().err
    assert main(["status", out, "--data-dir", str(data)]) == 0
    assert "1 stale" in capsys.readouterr().out
    assert main(["report", out, "--data-dir", str(data)]) == 0
    assert "†" in capsys.readouterr().out
    assert main(["report", out]) == 0
    assert "†" not in capsys.readouterr().out


def test_sets_with_a_mark_and_classes_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks._prompt_files import read_set

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    rows = [{"prompt": f"p{i} ", "text": f"p{i} a", "answer": "a", "variation": i % 3} for i in range(6)]
    text = "\ufeff" + "\n".join(map(json.dumps, rows)) + "\n"
    (tmp_path / "grammars_train.jsonl").write_text(text, "utf-8")

    assert [prompt.kind for prompt in read_set("grammars", "train")] == ["0", "1", "2"] * 2

    (tmp_path / "grammars_train.jsonl").write_text("[" * 100_000, "utf-8")
    with pytest.raises(RequestError, match="line 1 is no JSON"):
        read_set("grammars", "train")
