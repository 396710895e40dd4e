"""Converts a markdown report to LaTeX for a paper: one ``table`` float per table, which fits the text's width."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "∑": r"$\sum$",
    "°": r"$^\circ$",
    "²": r"$^2$",
    "³": r"$^3$",
    "µ": r"$\mu$",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "\N{NO-BREAK SPACE}": "~",
    "†": r"$\dagger$",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "‑": "-",
}
"""Characters that LaTeX would read as commands, and characters that a font may lack."""
CAPITALS = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
"""The Greek capitals that LaTeX has commands for; the others look like Latin letters."""
KNOWN = 0x180
"""LaTeX's default fonts have the Latin letters below this code point. Other characters are written as their code."""

TEXT_WIDTH = 340.0
"""Points between the margins of a one-column article, less a little."""
SIGN_WIDTH = 4.35
"""Points of an average sign at 8 points, bold and figures included; measured on these reports."""
GAP = 6.0
"""Points between two columns: twice ``\\tabcolsep``."""
MOST_ROWS = 42
"""Rows that fit on a page with a caption."""
WIDEST = 130.0
"""Points of the widest column. Longer text is broken into lines."""
MARKS = {"strong_open": r"\textbf{", "em_open": r"\emph{", "strong_close": "}", "em_close": "}", "softbreak": "\n"}
HEADINGS = {"h1": r"\section*", "h2": r"\subsection*"}
LOWEST = r"\paragraph"
VERBATIM = "\\begin{{verbatim}}\n{}\\end{{verbatim}}"


def latex(text: str) -> str:
    """LaTeX of a report; the LaTeX needs only ``\\usepackage{booktabs}``.

    A table becomes a float with the last heading as its caption, and a label made of the heading. A table that is wider
    than the text of an article is split into several floats, each with the first column.

    Args:
        text: markdown as `reports.markdown` writes it.
    """
    from markdown_it import MarkdownIt

    tokens = iter(MarkdownIt("commonmark", {"html": False}).enable("table").parse(text))
    parts = [r"% \usepackage{booktabs}"]
    caption, labels = "Results", Counter[str]()
    for token in tokens:
        if token.type == "table_open":
            parts += _floats(list(takewhile(lambda inner: inner.type != "table_close", tokens)), caption, labels)
        elif token.type == "heading_open":
            caption = _inline(next(tokens))
            parts.append(f"{HEADINGS.get(token.tag, LOWEST)}{{{caption}}}")
        elif token.type == "bullet_list_open":
            inside = takewhile(lambda inner: inner.type != "bullet_list_close", tokens)
            items = [rf"\item {_inline(inner)}" for inner in inside if inner.type == "inline"]
            parts.append("\n".join([r"\begin{itemize}\sloppy", *items, r"\end{itemize}"]))
        elif token.type == "fence":
            lines = [line for whole in token.content.splitlines() for line in _broken(whole)]
            content = "\n".join(lines).replace(r"\end{verbatim}", "") + "\n"
            parts.append(VERBATIM.format("".join(sign if ord(sign) < KNOWN else "?" for sign in content)))
        elif token.type == "inline":
            parts.append(rf"{{\sloppy {_inline(token)}\par}}")
    return "\n\n".join(parts) + "\n"


def _broken(line: str, width: int = 62) -> list[str]:
    """A command in lines that fit. The shell joins lines that end in a backslash."""
    pieces = [line[i : i + width] for i in range(0, len(line), width)] or [""]
    return [*(f"{piece}\\" for piece in pieces[:-1]), pieces[-1]]


def _floats(tokens: Sequence[Token], caption: str, labels: Counter[str]) -> list[str]:
    """The floats of one table."""
    right = ["right" in str(token.attrGet("style")) for token in tokens if token.type == "th_open"]
    rows: list[list[tuple[str, str]]] = []  # LaTeX, and the plain text that tells the width
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append((_inline(token), "".join(child.content for child in token.children or [])))
    columns = [_column(list(column), at_right) for column, at_right in zip(zip(*rows, strict=True), right, strict=True)]
    names = next((k for k in (1, 2, 3) if _told_apart(columns[:k])), 1)
    keys = columns[:names] if sum(column.width for column in columns[:names]) < TEXT_WIDTH / 2 else columns[:1]
    width = sum(column.width + GAP for column in keys) - GAP
    blocks: list[list[_Column]] = [[]]
    for column in columns[len(keys) :]:
        used = width + sum(other.width + GAP for other in blocks[-1])
        if blocks[-1] and used + GAP + column.width > TEXT_WIDTH:
            blocks.append([])
        blocks[-1].append(column)
    floats: list[str] = []
    parts = [(block, first) for first in range(1, len(rows), MOST_ROWS) for block in blocks]
    for block, first in parts or [(block, 1) for block in blocks]:
        name = "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\\[a-z]+", " ", caption.lower()))[:8]) or "results"
        labels[name] += 1
        label = f"tab:{name}" + (f"-{labels[name]}" if labels[name] > 1 else "")
        told = f"{caption} (continued)" if floats else caption
        floats.append(_float([*keys, *block], slice(first, first + MOST_ROWS), told, label))
    return floats


def _told_apart(keys: Sequence[_Column]) -> bool:
    """Whether the first columns, which every part of a split table repeats, name each row."""
    rows = list(zip(*(column.cells[1:] for column in keys), strict=True))
    return len(set(rows)) == len(rows)


@dataclass(frozen=True)
class _Column:
    """A table's column: LaTeX of its heading and its cells, its letter in a ``tabular``, and its width in points."""

    cells: list[str]
    letter: str
    width: float


def _column(cells: list[tuple[str, str]], right: bool) -> _Column:
    (head, head_text), *body = cells
    longest_word = max(map(len, head_text.split()), default=1)
    needed = max([longest_word, *(len(text) for _, text in body)]) * SIGN_WIDTH
    width = min(needed, WIDEST)
    letter = f"p{{{width:.0f}pt}}" if needed > WIDEST else "r" if right else "l"
    side = r"\raggedleft" if right and needed <= WIDEST else r"\raggedright"
    heading = rf"\parbox[b]{{{width:.0f}pt}}{{{side}\hspace{{0pt}}{head}}}"
    broken = r"\raggedright\hspace{0pt}" if needed > WIDEST else ""
    return _Column([heading, *(broken + text for text, _ in body)], letter, width)


def _float(columns: Sequence[_Column], rows: slice, caption: str, label: str) -> str:
    lines = [
        " & ".join(cells) for cells in zip(*([column.cells[0], *column.cells[rows]] for column in columns), strict=True)
    ]
    lines = [
        "{}" * line.startswith(("[", "*")) + line + r" \tabularnewline" for line in lines
    ]  # no option of the line before
    return "\n".join(
        [
            r"\begin{table}[tbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{@{{}}{''.join(column.letter for column in columns)}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _inline(token: Token) -> str:
    return "".join(
        rf"\texttt{{{_code(child.content)}}}"
        if child.type == "code_inline"
        else MARKS.get(child.type, escaped(child.content))
        for child in token.children or []
    )


def escaped(text: str) -> str:
    """Text as LaTeX shows it. A hyphen before a number that does not continue a word is a minus sign."""
    return "".join(_sign(part) for part in re.split(r"(?<![\w.)\]])(-)(?=[\d.])", text) if part)


def _sign(part: str) -> str:
    if part == "-":
        return "$-$"
    return "".join(SIGNS.get(sign) or _letter(sign) for sign in part)


def _letter(sign: str) -> str:
    if ord(sign) < KNOWN:
        return sign
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(sign, ""))
    if greek is not None:
        command = greek[2].lower().replace("lamda", "lambda")
        command = command if greek[1] == "SMALL" else command.capitalize()
        if greek[1] == "SMALL" or command in CAPITALS:
            return "o" if command == "omicron" else rf"$\{command}$"
    return rf"\texttt{{U+{ord(sign):04X}}}"


def _code(text: str) -> str:
    """Code, which may also break after a comma."""
    whole = "".join(SIGNS.get(sign) or _letter(sign) for sign in text)
    return whole.replace(",", r",\allowbreak{}")
