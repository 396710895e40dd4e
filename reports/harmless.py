"""Markdown that shows HTML tags as text: titles, errors and names of machines come from files of unknown origin."""

from __future__ import annotations

import re

CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)\1(?!`)|<(?=[A-Za-z/!?])", re.DOTALL)
"""A code span or fence, in which tags are text, or the beginning of a tag elsewhere."""


def harmless(text: str) -> str:
    """The text with the beginning of every tag outside code as ``&lt;``, which every reader shows as ``<``."""
    return CODE.sub(lambda found: found[0] if found[1] else "&lt;", text)
