"""The generated prompt sets: classes, counts, uniqueness, and every answer recomputed from its text."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tasks._prompt_sets import PROBLEMS, TRANSFORMATIONS, Prompt, sentences, transformations, word_problems

EXAMPLE = "Welcome to the real world."
PUBLISHED = {
    "Reverse Order of Words": "world. real the to Welcome",
    "Capitalize Every Other Letter": "wElCoMe To ThE rEaL wOrLd.",
    "Insert Number 1 Between Every Word": "Welcome 1 to 1 the 1 real 1 world.",
    "Replace Vowels with *": "W*lc*m* t* th* r**l w*rld.",
    "Double Every Consonant": "WWellccomme tto tthhe rreall wworrlldd.",
    "Capitalize Every Word": "Welcome To The Real World.",
    "Remove All Vowels": "Wlcm t th rl wrld.",
    "Add 'ly' To End of Each Word": "Welcomely toly thely really world.ly",
    "Remove All Consonants": "eoe o e ea o.",
    "Repeat Each Word Twice": "Welcome Welcome to to the the real real world. world.",
}
"""The examples of appendix A.1.4, misprints aside."""


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_papers_examples(kind: str) -> None:
    assert TRANSFORMATIONS[kind](EXAMPLE) == PUBLISHED[kind]


def expected_sentence(kind: str, sentence: str) -> str:
    """The answer, by other means than the project's."""
    words = sentence.split(" ")
    if kind == "Capitalize Every Other Letter":
        letters = iter(range(10_000))
        return re.sub("[A-Za-z]", lambda m: m[0].upper() if next(letters) % 2 else m[0].lower(), sentence)
    return {
        "Reverse Order of Words": " ".join(words[::-1]),
        "Insert Number 1 Between Every Word": sentence.replace(" ", " 1 "),
        "Replace Vowels with *": re.sub("[aeiou]", "*", sentence, flags=re.IGNORECASE),
        "Double Every Consonant": re.sub("([b-df-hj-np-tv-z])", r"\1\1", sentence, flags=re.IGNORECASE),
        "Capitalize Every Word": re.sub("(^| )([a-z])", lambda m: m[1] + m[2].upper(), sentence),
        "Remove All Vowels": re.sub("[aeiou]", "", sentence, flags=re.IGNORECASE),
        "Add 'ly' To End of Each Word": sentence.replace(" ", "ly ") + "ly",
        "Remove All Consonants": re.sub("[b-df-hj-np-tv-z]", "", sentence, flags=re.IGNORECASE),
        "Repeat Each Word Twice": re.sub(r"(\S+)", r"\1 \1", sentence),
    }[kind]


def test_sentence_transformations() -> None:
    found = transformations(100, None, seed=4)
    assert Counter(p.kind for p in found) == dict.fromkeys(TRANSFORMATIONS, 100)
    assert len({p.prompt for p in found}) == 1000
    bots: dict[str, set[str]] = {}
    for p in found:
        match = re.fullmatch(
            r"(\w+) is a chatbot that performs a specific transformation on sentences: (.+)\n    For example:\n    "
            r"(.+) -> ",
            p.prompt,
        )
        assert match
        assert match[2] == p.kind
        assert p.answer == expected_sentence(p.kind, match[3])
        bots.setdefault(match[1], set()).add(p.kind)
    assert len(bots) == 10
    assert all(len(kinds) == 1 for kinds in bots.values())
    assert found == transformations(100, None, seed=4) != transformations(100, None, seed=5)


def test_sentences_of_ones_own() -> None:
    found = transformations(2, ["One two.", "Three four.", "One two."], seed=0)
    assert {p.answer for p in found if p.kind.startswith("Reverse")} == {"two. One", "four. Three"}
    with pytest.raises(ValueError, match="3 prompts a class need as many sentences; there are 2"):
        transformations(3, ["One two.", "Three four.", "One two."], seed=0)
    assert len(set(sentences())) == len(sentences()) > 10_000


def expected_number(kind: str, n: list[int]) -> int:
    return {
        "pizza": lambda: n[2] - n[0] - n[1],
        "chaperones": lambda: int(n[1] * n[2] / n[0]),
        "purchase": lambda: n[0] + n[2],
        "game": lambda: sum(n),
        "reading": lambda: n[0] * n[1],
        "discount": lambda: n[0] - n[1],
        "area": lambda: n[0] * n[1],
        "savings": lambda: n[0] * n[1],
        "cupcakes": lambda: int(n[1] / n[0]),
        "interest": lambda: int(n[0] * n[1] * n[2] / 100),
    }[kind]()


@pytest.mark.parametrize("reasoning", [True, False])
def test_word_problems(reasoning: bool) -> None:
    found = word_problems(100, reasoning, seed=2)
    assert Counter(p.kind for p in found) == dict.fromkeys(PROBLEMS, 100)
    assert len({p.prompt for p in found}) == 1000
    for p in found:
        numbers = [int(text) for text in re.findall(r"\d+", p.prompt)]
        assert all(1 <= number <= 99 for number in numbers)
        match = re.fullmatch(r"(?:Reason: (.+) )?Answer: (-?\d+)", p.answer)
        assert match
        assert int(match[2]) == expected_number(p.kind, numbers)
        assert (match[1] is not None) == reasoning
        if reasoning:
            assert eval(match[1].rstrip(".").rpartition("= ")[2], {}) == int(match[2])  # noqa: S307
    assert found == word_problems(100, reasoning, seed=2) != word_problems(100, reasoning, seed=3)
    assert isinstance(found[0], Prompt)


def test_more_problems_than_there_are() -> None:
    with pytest.raises(ValueError, match="only 9801 different problems of 2 numbers"):
        word_problems(9802, False, seed=0)
