"""Reading selections such as ``outlier_*,datainf[damping=0.01],-lissa``.

A value in double quotes may hold commas, brackets and bars: ``own[path="my data, v2.csv"]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product

from harness.errors import RequestError


@dataclass(frozen=True)
class Term:
    """One term of a selection: a name or glob, its parameters as written, and whether the term removes matches."""

    pattern: str
    params: dict[str, str] = field(default_factory=dict)
    exclude: bool = False

    def matches(self, name: str) -> bool:
        return self.pattern == "all" or fnmatchcase(name, self.pattern)

    @property
    def is_glob(self) -> bool:
        return self.pattern == "all" or any(sign in self.pattern for sign in "*?")


def parse_selection(text: str) -> list[Term]:
    """Split at the commas outside brackets and parse every term; ``name[a=1|2]`` stands for two terms.

    Raises:
        RequestError: unbalanced brackets, an empty term, a parameter without ``=``.
    """
    terms = [term for piece in _split(text) for term in _alternatives(parse_term(piece, text))]
    if not terms:
        raise RequestError(f"the selection {text!r} is empty; give names separated by commas, or 'all'")
    return terms


def parse_term(piece: str, text: str | None = None) -> Term:
    """Parse ``name``, ``name[a=1,b=x]`` or ``-name``."""
    text = piece if text is None else text
    name, bracket, rest = piece.partition("[")
    exclude = name.startswith("-")
    name = name.removeprefix("-").strip()
    if not name or any(sign in name for sign in "]= "):
        raise RequestError(f"{piece!r} in {text!r} is not a name; write name, name[parameter=value] or -name")
    if not bracket:
        return Term(name, exclude=exclude)
    if not rest.endswith("]"):
        raise RequestError(f"{piece!r} in {text!r} has an unclosed '['; write name[parameter=value]")
    if exclude:
        raise RequestError(f"{piece!r} in {text!r} leaves out a name with parameters; write -{name}")
    params: dict[str, str] = {}
    for assignment in _split(rest[:-1]):
        key, equals, value = (side.strip() for side in assignment.partition("="))
        if not equals or not key or not value:
            raise RequestError(f"{assignment!r} in {piece!r} is not a parameter; write name[parameter=value]")
        if key in params:
            raise RequestError(f"parameter {key!r} is given twice in {piece!r}; give it once")
        params[key] = value
    return Term(name, params)


def _alternatives(term: Term) -> list[Term]:
    """One term per combination of the values that ``|`` separates."""
    choices = []
    for key, value in term.params.items():
        values = _pieces(value, "|")
        if not all(values):
            raise RequestError(f"'{key}={value}' has an empty alternative; write {key}=value|value")
        choices.append([(key, _unquoted(choice)) for choice in values])
    return [Term(term.pattern, dict(chosen), term.exclude) for chosen in product(*choices)]


def format_term(name: str, params: dict[str, object]) -> str:
    """The inverse of `parse_term`: ``name[a=1,b=yes]``, or ``name`` alone without parameters."""
    inside = ",".join(f"{key}={written(value)}" for key, value in params.items())
    return f"{name}[{inside}]" if inside else name


def written(value: object) -> str:
    """A parameter's value as a user writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "none" if value is None else str(value)
    return f'"{text}"' if isinstance(value, str) and any(sign in text for sign in SIGNS) else text


SIGNS = ",[]()|"
"""Signs that mean something in a selection. A value with such a sign is written in double quotes."""


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1] if quoted else value


def changes(spec: str) -> str:
    """The part of a spec after the name: ``[damping=0.1]`` of ``datainf[damping=0.1]``. Empty for a name alone."""
    _, bracket, rest = spec.partition("[")
    return bracket + rest


def _split(text: str) -> list[str]:
    """The pieces between commas that are not empty."""
    return [piece for piece in _pieces(text, ",") if piece]


def _pieces(text: str, at: str) -> list[str]:
    """The pieces between separators that are outside brackets and double quotes."""
    pieces, depth, start, quoted = [], 0, 0, False
    for position, sign in enumerate(text):
        quoted ^= sign == '"'
        if quoted:
            continue
        depth += (sign in "[(") - (sign in "])")
        if depth < 0:
            break
        if sign == at and depth == 0:
            pieces.append(text[start:position])
            start = position + 1
    if quoted:
        raise RequestError(f"{text!r} has a double quote that does not close")
    if depth != 0:
        raise RequestError(f"{text!r} has unbalanced brackets; write name[parameter=value]")
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces]
