"""Prompt sets from files: JSON lines, or the folders that the `datasets` library saves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.files import VARIABLE, data_folder
from harness.errors import RequestError
from tasks._prompt_sets import Prompt

END = "</s>"
"""How the published texts end; a tokenizer's own end is put in its place."""
PLACES = ("", "prompts", "datasets")


def found_set(name: str, split: str) -> Path | None:
    """``NAME_SPLIT.jsonl`` or the folder ``NAME_SPLIT.hf`` in the data folder, or in prompts/ or datasets/ below it."""
    for place in PLACES:
        for suffix in ("jsonl", "hf"):
            path = data_folder() / place / f"{name}_{split}.{suffix}"
            if path.exists():
                return path
    return None


def read_set(name: str, split: str) -> list[Prompt]:
    """The prompts of a set's ``train`` or ``test`` split.

    Raises:
        RequestError: there is none, or a row lacks its prompt, text or class.
    """
    path = found_set(name, split)
    if path is None:
        raise RequestError(
            f"prompts=files needs {name}_{split}.jsonl or {name}_{split}.hf in the folder of --data-dir or {VARIABLE}, "
            "or in prompts/ or datasets/ below it; prompts=generated needs nothing"
        )
    prompts = [_prompt(row, where) for where, row in (_from_lines(path) if path.is_file() else _from_datasets(path))]
    if not prompts:
        raise RequestError(f"{path} has no prompts")
    return prompts


def digest(name: str) -> str:
    """What tells a set's files from others of their name; empty where they are not there."""
    total = hashlib.sha256()
    for split in ("train", "test"):
        path = found_set(name, split)
        if path is None:
            return ""
        for file in sorted(path.glob("data-*")) if path.is_dir() else [path]:
            total.update(file.read_bytes())
    return total.hexdigest()[:16]


def _prompt(row: Any, where: str) -> Prompt:
    """``text`` is the prompt with its answer; ``variation`` the class."""
    if not isinstance(row, Mapping):
        raise RequestError(f"{where} is no object with prompt, text and variation")
    kind = row.get("variation")
    if isinstance(kind, int) and not isinstance(kind, bool):
        row = {**row, "variation": str(kind)}  # a class by its number
    for key in ("prompt", "text", "variation"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise RequestError(f"{where} has no {key}, or one that is no text; it has {', '.join(map(str, row))}")
    prompt, text = row["prompt"], row["text"].removesuffix(END)
    if not text.startswith(prompt.rstrip()):
        raise RequestError(f"{where}: the text does not begin with the prompt")
    kept = prompt if text.startswith(prompt) else prompt.rstrip()
    return Prompt(kept, text[len(kept) :], row["variation"])


def _from_lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        lines: Iterable[str] = path.read_text(encoding="utf-8-sig").split("\n")  # JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read as text: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"{path}, line {number} is no JSON: {error}") from error


def _from_datasets(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise RequestError(f"{path} needs the extra nlp: pip install 'influence-harness[nlp]'") from error
    try:
        rows = datasets.load_from_disk(str(path))
        for number, row in enumerate(rows):
            yield f"{path}, row {number}", row
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is no folder that `datasets` saved: {str(error).splitlines()[0][:160]}") from error
