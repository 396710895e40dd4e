"""A report in markdown as one HTML page that needs nothing outside itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from reports.method_notes import MethodNote
from reports.sorting import SORTABLE, SORTING

if TYPE_CHECKING:
    from markdown_it.token import Token

STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --faint: #f4f6f8; --ink: #1d232a; --paper: #fff; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a424b; --faint: #20262c; --ink: #dde3e9; --paper: #15191e; --link: #7db8f0; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 88rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p, li { max-width: 60rem; }
a { color: var(--link); }
nav ul { margin: 0; padding-left: 1.2rem; }
code { font: .92em ui-monospace, monospace; background: var(--faint); padding: .1em .3em; border-radius: 3px;
  overflow-wrap: anywhere; }
pre { background: var(--faint); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
pre code { padding: 0; background: none; overflow-wrap: normal; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; text-align: left; }
th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; min-width: 4rem; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1; }
tbody tr:hover > * { background: var(--faint); }
td a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; }
dt { font-weight: 600; margin-top: .8rem; scroll-margin-top: 1rem; } dd { margin: 0 0 0 1rem; max-width: 60rem; }
:target { background: var(--faint); }
@media (prefers-color-scheme: dark) {
  img.chart { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; }
}
@media (max-width: 40rem) {
  main { padding: 1rem; }
  th, td { padding: .3rem .45rem; font-size: .85rem; }
  th:first-child, td:first-child { white-space: normal; min-width: 6rem; max-width: 36vw; overflow-wrap: anywhere; }
}
@media print {
  @page { size: A4 landscape; margin: 1cm; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .wide { overflow: visible; }
  table { font-size: .62rem; width: 100%; }
  th, td { padding: .15rem .25rem; white-space: normal; }
  th:first-child, td:first-child { position: static; }
  tr, figure { break-inside: avoid; }
  thead { display: table-header-group; }
  h2 { break-after: avoid; }
}
"""
"""Charts are white, so a dark page inverts them; hues stay. Photographs are shown as they are."""


@dataclass(frozen=True)
class Figure:
    """A figure of a page.

    Args:
        caption: its heading.
        png: the picture.
        photo: whether it shows photographs, which a dark page leaves as they are.
    """

    caption: str
    png: bytes
    photo: bool = False


def html_page(text: str, figures: Sequence[Figure] = (), methods: Sequence[MethodNote] = ()) -> str:
    """The HTML page. HTML tags in the text are shown as plain text.

    Args:
        text: markdown as `reports.markdown` writes it.
        figures: they follow the text.
        methods: what is said of methods at the end. First cells of tables that begin with a method's title link there.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("table_open", _table_open)
    reader.add_render_rule("table_close", _table_close)
    tokens = reader.parse(text)
    title = "Results"
    headings: list[str] = []
    for opened, inside in pairwise(tokens):
        if opened.type == "heading_open" and opened.tag == "h1":
            title = _words(inside)
        elif opened.type == "heading_open":
            opened.attrSet("id", f"section-{len(headings) + 1}")
            headings.append(_words(inside))
    _link_methods(tokens, methods)
    body = reader.renderer.render(tokens, reader.options, {})
    for figure in figures:
        headings.append(figure.caption)
        look = "" if figure.photo else ' class="chart"'
        body += (
            f'<h2 id="section-{len(headings)}">{escape(figure.caption)}</h2>\n<figure><img{look} '
            f'alt="{escape(figure.caption)}" src="data:image/png;base64,{base64.b64encode(figure.png).decode()}">'
            "</figure>\n"
        )
    if methods:
        headings.append("Methods")
        body += f'<h2 id="section-{len(headings)}">Methods</h2>\n{_glossary(methods)}'
    if len(headings) > 1:
        links = "".join(f'<li><a href="#section-{i}">{escape(name)}</a></li>' for i, name in enumerate(headings, 1))
        first = body.find("<h2")
        body = f"{body[:first]}<nav><ul>{links}</ul></nav>\n{body[first:]}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}{SORTABLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n<script>{SORTING}</script>\n"
        "</body>\n</html>\n"
    )


def _link_methods(tokens: Sequence[Token], methods: Sequence[MethodNote]) -> None:
    """Let each table's first cells link to what is said of their method."""
    from markdown_it.token import Token

    by_title = {note.title: note for note in methods}
    for before, opened, inside in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (before.type, opened.type, inside.type) != ("tr_open", "td_open", "inline") or not inside.children:
            continue
        text = inside.children[0]
        note = by_title.get(text.content.strip().removesuffix(" †"))
        if text.type == "text" and note is not None:
            link = Token("link_open", "a", 1, attrs={"href": f"#method-{note.name}"})
            inside.children[:1] = [link, text, Token("link_close", "a", -1)]


def _glossary(methods: Sequence[MethodNote]) -> str:
    parts = []
    for note in methods:
        source = f"<br>Source: {linked(escape(note.source))}" if note.source else ""
        sees = f"<br>Uses: {escape(', '.join(note.uses))}" if note.uses else ""
        parts.append(
            f'<dt id="method-{escape(note.name)}">{escape(note.title)} <code>{escape(note.name)}</code></dt>'
            f"<dd>{escape(note.summary)}{sees}{source}</dd>"
        )
    return "<dl>\n" + "\n".join(parts) + "\n</dl>\n"


def linked(source: str) -> str:
    """A source with links to arXiv and GitHub where it names them."""
    source = re.sub(r"arXiv[: ](\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', source)
    return re.sub(r"github\.com/[\w.-]+/[\w-]+", r'<a href="https://\g<0>">\g<0></a>', source)


def _words(inline: Token) -> str:
    """A heading without its markup."""
    return "".join(child.content for child in inline.children or [])


def _table_open(*_: Any) -> str:
    return '<div class="wide"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"
