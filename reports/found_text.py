"""What `find` found, as text for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.finding.found import Found

if TYPE_CHECKING:
    import pandas as pd

    from harness.finding.comparing import Compared

KINDS = {"symmetric": "symm.", "confusion": "conf.", "boundary": "bound.", "clusters": "clust."}
"""Short names of the kinds of planted errors, so that the table fits 80 columns."""

SHOWN = 20
"""Rows of a table on a terminal."""


def found_text(found: Found, top: int | None = None) -> str:
    """The summary, the first suspects, pairs of classes, duplicates and the comparison.

    Args:
        top: how many samples are listed; None for the first probably wrong ones.
    """
    return "\n".join(_lines(found, top)) + "\n"


def headline(found: Found) -> str:
    """How many labels are probably wrong, in one or two sentences."""
    count = len(found.wrong)
    bounds = f"between {found.low:.0f} and {found.high:.0f} labels are wrong"
    if not count:
        return f"No label is probably wrong. By the bounds of {found.counter}, {bounds}."
    verb = "is" if count == 1 else "are"
    told = f"{count} of {found.n} labels {verb} probably wrong ({100 * count / found.n:.1f} %)."
    if round(found.estimated) != count:
        told += f" {found.counter} estimates {found.estimated:.0f}."
    return f"{told} By the bounds of {found.counter}, {bounds}."


def agreement(found: Found) -> str:
    """How well the model predicts the given labels, with a warning if the model is too weak for a list to trust."""
    told = f"Out of sample, the model predicts {100 * found.agreement:.0f} % of the given labels."
    chance = max(found.counts) / found.n
    if found.agreement < chance + 0.5 * (1 - chance):
        told += (
            f" The largest class alone has {100 * chance:.0f} %. Either many labels are wrong, or the model is weak. "
            "A weak model takes its own errors for wrong labels. --compare says how many suspects to expect wrong."
        )
    return told


def _lines(found: Found, top: int | None) -> Iterator[str]:
    width = shutil.get_terminal_size((80, 24)).columns
    sizes = sorted(zip(found.classes, found.counts, strict=True), key=lambda one: -one[1])
    shown = ", ".join(f"{_short(name, 40)} {count}" for name, count in sizes[:6])
    more = f" and {len(sizes) - 6} more" if len(sizes) > 6 else ""
    yield from _wrapped(f"{found.what}: {found.n} samples of {len(sizes)} classes ({shown}{more}).", width)
    for note in found.notes:
        yield from _wrapped(note, width)
    yield from _wrapped(agreement(found), width)
    yield ""
    yield from _wrapped(headline(found), width)
    if found.compared is not None:
        yield ""
        yield from _comparison(found.compared, width)
    count = len(found.wrong) if top is None else min(top, found.n)
    if count:
        rows = min(count, SHOWN) if top is None else count
        yield ""
        more = f", the first {rows}" if rows < count else ""
        kind = "Probably wrong" if top is None else "Most suspicious"
        yield from _wrapped(f"{kind}, by {found.method}: {count}{more}", width)
        yield _table(_suspects(found, rows), width)
    if len(found.pairs):
        yield ""
        yield "Probably wrong labels by pair of classes:"
        pairs = found.pairs.head(SHOWN // 2)
        share = [f"{100 * value:.1f} %" for value in pairs["share_of_given"]]
        yield _table(pairs.assign(share_of_given=share), width)
    differ = found.duplicates[found.duplicates["labels_differ"].astype(bool)]
    if len(found.duplicates):
        sets = found.duplicates["set"].nunique()
        yield ""
        yield from _wrapped(
            f"{len(found.duplicates)} samples have exact or near duplicates, {sets} sets in "
            f"all. In {differ['set'].nunique()} of the sets, the labels differ.",
            width,
        )
        if len(differ):
            yield _table(differ.drop(columns="labels_differ").head(SHOWN // 2), width)


def _comparison(compared: Compared, width: int) -> Iterator[str]:
    yield from _wrapped(
        f"{len(compared.table)} detectors looked for {compared.planted} planted errors among {compared.samples} "
        f"samples, in {compared.runs} copies. Average precision, with the 95 % interval of its mean:",
        width,
    )
    table = compared.table.head(SHOWN // 2)
    others = ("method", "low", "high", "average_precision", "auroc", "f1", "seconds")
    kinds = [name for name in table.columns if name not in others]
    shown: dict[str, Any] = {"method": table["method"]}
    half = (table["high"] - table["low"]) / 2
    shown["mean"] = [f"{m:.2f} ± {h:.2f}" for m, h in zip(table["average_precision"], half, strict=True)]
    shown |= {KINDS.get(name, name): [f"{value:.2f}" for value in table[name]] for name in kinds}
    shown["seconds"] = [f"{value:.3g}" for value in table["seconds"]]
    yield _table(table[["method"]].assign(**shown), width)
    share, low, high = compared.precision
    yield from _wrapped(
        f"{compared.best} ranks the samples. Of as many suspects as labels are wrong, expect {100 * share:.0f} % to be "
        f"wrong (95 % prediction interval {100 * low:.0f} to {100 * high:.0f} %).",
        width,
    )
    reasons: dict[str, list[str]] = {}
    for name, why in compared.left_out.items():
        reasons.setdefault(why.rstrip("."), []).append(name)
    for why, names in reasons.items():
        yield from _wrapped(f"Not compared, because {why}: {', '.join(names)}.", width)


def _suspects(found: Found, rows: int) -> pd.DataFrame:
    table = found.ranked.head(rows)
    frame = table[["given", "suggested"]].assign(
        given=[_short(value, 24) for value in table["given"]],
        suggested=[_short(value, 24) for value in table["suggested"]],
        probability=[f"{value:.2f}" for value in table["probability"]],
        score=[f"{value:.3f}" for value in table["score"]],
    )
    frame.insert(0, "row", frame.index)
    given = found.ranked["given"].astype(str)
    for name in found.columns.columns:
        if not found.columns[name].astype(str).equals(given):
            called = f"{name} (own)" if str(name) in frame.columns else str(name)
            frame[called] = [_short(value) for value in found.columns[name].head(rows)]
    return frame


def _short(value: Any, most: int = 60) -> str:
    text = " ".join(str(value).split())
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _table(frame: pd.DataFrame, width: int) -> str:
    """The columns that fit the width; texts are left-aligned. Wide characters count as two."""
    from rich.cells import cell_len, set_cell_size

    lines = [""] * (len(frame) + 1)
    for k, name in enumerate(frame.columns):
        cells = [_short(name), *(_short(value) for value in frame[name])]
        size = max(map(cell_len, cells))
        used = cell_len(lines[0])
        if k and used + 2 + min(size, 12) > width:
            break
        size = min(size, width - used - 2 * (k > 0))
        right = all(_is_figure(cell) for cell in cells[1:])
        cut = [cell if cell_len(cell) <= size else f"{set_cell_size(cell, size - 1)}…" for cell in cells]
        blanks = [" " * (size - cell_len(cell)) for cell in cut]
        lines = [
            f"{line}{'  ' if k else ''}{f'{blank}{cell}' if right else f'{cell}{blank}'}"
            for line, cell, blank in zip(lines, cut, blanks, strict=True)
        ]
    return "\n".join(line.rstrip() for line in lines)


def _is_figure(text: str) -> bool:
    return bool(text) and all(sign in "0123456789.-+ %±" for sign in text)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, min(width, 120), break_on_hyphens=False, break_long_words=False) or [""]
