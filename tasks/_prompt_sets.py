"""The prompt sets of the language-model benchmarks, made from their description: classes of short texts with answers.

Ten transformations of a sentence, each bound to a chatbot's invented name (Chhabra et al., ICML 2025, appendix A.1.4),
and ten kinds of word problem with random integers, with or without the step to the answer (A.1.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

VOWELS = frozenset("aeiouAEIOU")


@dataclass(frozen=True)
class Prompt:
    """One sample.

    Args:
        prompt: the text up to the answer.
        answer: what follows it; for word problems with reasoning, the step and the answer.
        kind: its class's name.
    """

    prompt: str
    answer: str
    kind: str


def _consonant(letter: str) -> bool:
    return letter.isalpha() and letter not in VOWELS


def _alternating(sentence: str) -> str:
    letters = 0
    changed = []
    for word in sentence:
        changed.append(word.upper() if word.isalpha() and letters % 2 else word.lower())
        letters += word.isalpha()
    return "".join(changed)


TRANSFORMATIONS: dict[str, Callable[[str], str]] = {
    "Reverse Order of Words": lambda s: " ".join(reversed(s.split())),
    "Capitalize Every Other Letter": _alternating,
    "Insert Number 1 Between Every Word": lambda s: " 1 ".join(s.split()),
    "Replace Vowels with *": lambda s: "".join("*" if c in VOWELS else c for c in s),
    "Double Every Consonant": lambda s: "".join(2 * c if _consonant(c) else c for c in s),
    "Capitalize Every Word": lambda s: " ".join(word[:1].upper() + word[1:] for word in s.split()),
    "Remove All Vowels": lambda s: "".join(c for c in s if c not in VOWELS),
    "Add 'ly' To End of Each Word": lambda s: " ".join(f"{word}ly" for word in s.split()),
    "Remove All Consonants": lambda s: "".join(c for c in s if not _consonant(c)),
    "Repeat Each Word Twice": lambda s: " ".join(f"{word} {word}" for word in s.split()),
}
"""What is done to a sentence, by the transformation's name."""


@dataclass(frozen=True)
class Problem:
    """A kind of word problem.

    Args:
        text: with ``{name}`` for a person and ``{0}``, ``{1}``, … for positive integers.
        count: of the integers.
        reason: the step to the answer, as a format string, too.
        answer: of the integers.
    """

    text: str
    count: int
    reason: str
    answer: Callable[..., int]


PROBLEMS: dict[str, Problem] = {
    "pizza": Problem(
        "{name} ate {0} slices of pizza and a friend ate {1} slices from a pizza that originally had {2} slices. "
        "How many slices of the pizza are left?",
        3,
        "Combined slices eaten = {0} + {1}. Left = {2} - ({0} + {1}).",
        lambda a, b, c: c - (a + b),
    ),
    "chaperones": Problem(
        "For every {0} students going on a field trip, there are {1} adults needed as chaperones. If {2} students are "
        "attending, how many adults are needed?",
        3,
        "Adults needed = ({1} * {2}) // {0}.",
        lambda a, b, c: b * c // a,
    ),
    "purchase": Problem(
        "In an aquarium, there are {0} sharks and {1} dolphins. If they bought {2} more sharks, how many sharks would "
        "be there in total?",
        3,
        "Total sharks = {0} + {2}.",
        lambda a, b, c: a + c,
    ),
    "game": Problem(
        "{name} scored {0} points in the first game, {1} points in the second, {2} in the third, and {3} in the fourth "
        "game. What is the total of points?",
        4,
        "Total points = {0} + {1} + {2} + {3}.",
        lambda a, b, c, d: a + b + c + d,
    ),
    "reading": Problem(
        "{name} reads for {0} hours each day. How many hours does {name} read in total in {1} days?",
        2,
        "Total hours read = {0} * {1}.",
        lambda a, b: a * b,
    ),
    "discount": Problem(
        "A shirt costs ${0}. There's a {1}-dollar off sale. How much does the shirt cost after the discount?",
        2,
        "Cost after discount = {0} - {1}.",
        lambda a, b: a - b,
    ),
    "area": Problem(
        "A rectangular garden has a length of {0} meters and a width of {1} meters. What is its area?",
        2,
        "Area = {0} * {1}.",
        lambda a, b: a * b,
    ),
    "savings": Problem(
        "If {name} saves ${0} each week, how much will be saved after {1} weeks?",
        2,
        "Total savings = {0} * {1}.",
        lambda a, b: a * b,
    ),
    "cupcakes": Problem(
        "A bakery sells cupcakes in boxes of {0}. If they have {1} cupcakes, how many boxes can they fill?",
        2,
        "Boxes filled = {1} // {0}.",
        lambda a, b: b // a,
    ),
    "interest": Problem(
        "{name} invests ${0} at an annual interest rate of {1}%. How much interest will be earned after {2} years?",
        3,
        "Interest = ({0} * {1} * {2}) // 100.",
        lambda a, b, c: a * b * c // 100,
    ),
}
"""Kinds of word problem by name."""

NAMES = ("Ada", "Boris", "Clara", "David", "Edith", "Felix", "Grete", "Hugo", "Ida", "Jonas", "Klara", "Leo", "Mona")
LARGEST = 99
ADJECTIVES = (
    "Silent", "Early", "Bright", "Narrow", "Distant", "Golden", "Heavy", "Restless", "Hidden", "Patient",
    "Broken", "Gentle", "Frozen", "Simple",
)  # fmt: skip
NOUNS = (
    "rivers", "gardens", "engines", "letters", "shadows", "windows", "sailors", "bridges", "candles",
    "pictures", "voices", "branches",
)  # fmt: skip
VERBS = (
    "carry", "follow", "remember", "cover", "answer", "gather", "awaken", "borrow", "discover", "forgive",
    "measure", "outlive",
)  # fmt: skip
OBJECTS = (
    "old stories", "the morning", "a quiet room", "every season", "small hopes", "the open sea",
    "our first winter", "no one",
)  # fmt: skip


def sentences() -> list[str]:
    """Short sentences the project brings, in a fixed order, none twice."""
    return [f"{a} {n} {v} {o}." for a in ADJECTIVES for n in NOUNS for v in VERBS for o in OBJECTS]


def chatbot_names(count: int, rng: np.random.Generator) -> list[str]:
    """Invented names, none twice."""
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = rng.choice(list("bdfgklmnprstvz"), 3).tolist(), rng.choice(list("aeiou"), 3).tolist()
        names["".join(c + v for c, v in zip(*syllables, strict=True))] = None
    return list(names)


def transformations(per_class: int, own: Sequence[str] | None, seed: int) -> list[Prompt]:
    """Sentence transformations: so many prompts of each of ten classes, class after class, of the same sentences.

    Args:
        given: sentences to take instead of the project's.

    Raises:
        ValueError: too few sentences.
    """
    rng = np.random.default_rng(seed)
    known = list(dict.fromkeys(sentences() if own is None else own))
    if len(known) < per_class:
        raise ValueError(f"{per_class} prompts a class need as many sentences; there are {len(known)}")
    chosen = [known[i] for i in rng.permutation(len(known))[:per_class]]
    prompts = []
    for bot, (kind, change) in zip(chatbot_names(10, rng), TRANSFORMATIONS.items(), strict=True):
        start = (
            f"{bot} is a chatbot that performs a specific transformation on sentences: {kind}\n    For example:\n    "
        )
        prompts += [Prompt(f"{start}{sentence} -> ", change(sentence), kind) for sentence in chosen]
    return prompts


def word_problems(per_class: int, reasoning: bool, seed: int) -> list[Prompt]:
    """Word problems: so many prompts of each of ten classes, class after class, none twice.

    Args:
        reasoning: whether the answer begins with the step to it.
    """
    rng = np.random.default_rng(seed)
    prompts = []
    for kind, problem in PROBLEMS.items():
        name = str(rng.choice(NAMES))
        for numbers in _distinct(problem.count, per_class, rng):
            text = problem.text.format(*numbers, name=name)
            reason = f"Reason: {problem.reason.format(*numbers)} " if reasoning else ""
            answer = f"{reason}Answer: {problem.answer(*numbers)}"
            prompts.append(Prompt(f"Solve the following math problem. {text} -> ", answer, kind))
    return prompts


def _distinct(count: int, wanted: int, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """Tuples of integers from 1 to `LARGEST`, none twice."""
    seen: set[tuple[int, ...]] = set()
    if wanted > LARGEST**count:
        raise ValueError(f"there are only {LARGEST**count} different problems of {count} numbers")
    while len(seen) < wanted:
        numbers = tuple(int(number) for number in rng.integers(1, LARGEST + 1, count))
        if numbers not in seen:
            seen.add(numbers)
            yield numbers
