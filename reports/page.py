"""A report in markdown as one HTML page that needs nothing outside itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

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
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
tbody tr:hover > * { background: var(--faint); }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; }
"""


def html_page(text: str, figures: Sequence[tuple[str, bytes]] = ()) -> str:
    """The HTML page. HTML tags in the text are shown as plain text.

    Args:
        text: markdown as `reports.markdown` writes it.
        figures: (caption, PNG) that follow the text.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("table_open", _table_open)
    reader.add_render_rule("table_close", _table_close)
    tokens = reader.parse(text)
    title = "Results"
    sections: list[str] = []
    for opened, inside in pairwise(tokens):
        if opened.type == "heading_open" and opened.tag == "h1":
            title = _words(inside)
        elif opened.type == "heading_open":
            opened.attrSet("id", f"section-{len(sections) + 1}")
            sections.append(_words(inside))
    body = reader.renderer.render(tokens, reader.options, {})
    for caption, png in figures:
        sections.append(caption)
        body += (
            f'<h2 id="section-{len(sections)}">{escape(caption)}</h2>\n<figure><img alt="{escape(caption)}" '
            f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>\n'
        )
    if len(sections) > 1:
        links = "".join(f'<li><a href="#section-{i}">{escape(name)}</a></li>' for i, name in enumerate(sections, 1))
        first = body.find("<h2")
        body = f"{body[:first]}<nav><ul>{links}</ul></nav>\n{body[first:]}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _words(inline: Token) -> str:
    """A heading without its markup."""
    return "".join(child.content for child in inline.children or [])


def _table_open(*_: Any) -> str:
    return '<div class="wide"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"
