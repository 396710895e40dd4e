"""Converts a markdown report to LaTeX for a paper, with one booktabs ``tabular`` per table."""

from __future__ import annotations

from collections.abc import Sequence
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
    "_": r"\_",
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
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "†": r"$\dagger$",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "‑": "-",
}
"""Characters that LaTeX would read as commands, and characters that a font may lack."""
MARKS = {"strong_open": r"\textbf{", "em_open": r"\emph{", "strong_close": "}", "em_close": "}", "softbreak": "\n"}
HEADINGS = {"h1": r"\section*", "h2": r"\subsection*"}
LOWEST = r"\paragraph"
VERBATIM = "\\begin{{verbatim}}\n{}\\end{{verbatim}}"


def latex(text: str) -> str:
    """LaTeX of a report; the LaTeX needs only ``\\usepackage{booktabs}``.

    Args:
        text: markdown as `reports.markdown` writes it.
    """
    from markdown_it import MarkdownIt

    tokens = iter(MarkdownIt("commonmark", {"html": False}).enable("table").parse(text))
    parts = [r"% \usepackage{booktabs}"]
    for token in tokens:
        if token.type == "table_open":
            parts.append(_tabular(list(takewhile(lambda inner: inner.type != "table_close", tokens))))
        elif token.type == "heading_open":
            parts.append(f"{HEADINGS.get(token.tag, LOWEST)}{{{_inline(next(tokens))}}}")
        elif token.type == "bullet_list_open":
            inside = takewhile(lambda inner: inner.type != "bullet_list_close", tokens)
            items = [rf"\item {_inline(inner)}" for inner in inside if inner.type == "inline"]
            parts.append("\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]))
        elif token.type == "fence":
            parts.append(VERBATIM.format(token.content.replace(r"\end{verbatim}", "")))
        elif token.type == "inline":
            parts.append(_inline(token))
    return "\n\n".join(parts) + "\n"


def _tabular(tokens: Sequence[Token]) -> str:
    heads = [token for token in tokens if token.type == "th_open"]
    columns = "".join("r" if "right" in str(token.attrGet("style")) else "l" for token in heads)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_inline(token))
    lines = [
        "{}" * row[0].startswith(("[", "*")) + " & ".join(row) + r" \\" for row in rows
    ]  # no option of a \\ before
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _inline(token: Token) -> str:
    return "".join(
        rf"\texttt{{{escaped(child.content)}}}"
        if child.type == "code_inline"
        else MARKS.get(child.type, escaped(child.content))
        for child in token.children or []
    )


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(SIGNS.get(sign, sign) for sign in text)
