"""Influential prompts: which training prompts of a fine-tuned language model influence a test prompt?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.errors import RequestError
from harness.selection.registry import register_task
from tasks._prompt_sets import Prompt, transformations, word_problems
from tasks._prompt_task import PromptTask


@register_task
@dataclass(frozen=True)
class Sentences(PromptTask):
    """Ten classes of prompts: ten transformations of sentences, each by a chatbot with a different invented name.

    Args:
        sentences: a text file with one sentence per line, instead of the project's sentences.
    """

    name: ClassVar[str] = "prompts_sentences"
    title: ClassVar[str] = "Sentence Transformations"
    file_name: ClassVar[str] = "grammars"

    sentences: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sentences is not None and self.prompts == "files":
            raise ValueError(f"sentences={self.sentences} belongs to prompts=generated; files have their own sentences")

    def generated(self, per_class: int, seed: int) -> list[Prompt]:
        sentences = None
        if self.sentences is not None:
            sentences = [line.strip() for line in self._text().splitlines() if line.strip()]
        return transformations(per_class, sentences, seed)

    def others(self, per_class: int, seed: int) -> list[Prompt]:
        return transformations(per_class, None, seed)

    def essence(self, prompt: Prompt) -> object:
        return (prompt.kind, prompt.answer)  # chatbots are renamed from set to set

    def data_version(self) -> str:
        own = "" if self.sentences is None else hashlib.sha256(self._text().encode()).hexdigest()[:16]
        return own + super().data_version()

    def _text(self) -> str:
        try:
            return Path(str(self.sentences)).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"sentences={self.sentences} cannot be read as text: {error}") from error


@register_task
@dataclass(frozen=True)
class Math(PromptTask):
    """Ten kinds of math word problems with random integers; the answer is the final number alone."""

    name: ClassVar[str] = "prompts_math"
    title: ClassVar[str] = "Math Without Reasoning"
    file_name: ClassVar[str] = "math_without_reason"

    def generated(self, per_class: int, seed: int) -> list[Prompt]:
        return word_problems(per_class, False, seed)


@register_task
@dataclass(frozen=True)
class MathReasoning(PromptTask):
    """Ten kinds of math word problems with random integers; the answer is the calculation and the final number."""

    name: ClassVar[str] = "prompts_math_reasoning"
    title: ClassVar[str] = "Math With Reasoning"
    file_name: ClassVar[str] = "math_with_reason"

    def generated(self, per_class: int, seed: int) -> list[Prompt]:
        return word_problems(per_class, True, seed)
