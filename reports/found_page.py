"""What `find` found, as one HTML page that works offline: tables to sort and filter, pictures, texts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import Unsupported
from harness.finding.found import Found
from reports.found_text import agreement, headline
from reports.sorting import SORTABLE, SORTING

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2_000
"""Suspects on the page. The CSV has them all."""

SIDE = 96
"""Side of a thumbnail, in pixels."""

MOST_COLUMNS = 12
"""Own columns on the page."""

LONGEST = 400
"""Characters of a cell on the page."""

STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --faint: #f4f6f8; --ink: #1d232a; --paper: #fff; --link: #0b5cad;
  --wrong: #b3261e; --right: #146c2e; }
@media (prefers-color-scheme: dark) { :root { --line: #3a424b; --faint: #20262c; --ink: #dde3e9; --paper: #15191e;
  --link: #7db8f0; --wrong: #ff9a90; --right: #7fd49a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 88rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { max-width: 60rem; margin: .4rem 0; }
.count { font-size: 1.15rem; font-weight: 600; }
details { margin: .5rem 0; }
.tools { display: flex; flex-wrap: wrap; gap: .5rem; margin: .75rem 0; position: sticky; top: 0; padding: .4rem 0;
  background: var(--paper); z-index: 2; }
.tools label { display: flex; flex-direction: column; font-size: .8rem; flex: 1 1 9rem; max-width: 16rem; }
select, input { font: inherit; padding: .3rem; border: 1px solid var(--line); border-radius: 4px; width: 100%;
  background: var(--paper); color: var(--ink); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { border-bottom: 2px solid var(--line); white-space: nowrap; }
td.n { text-align: right; } td.text { min-width: 16rem; max-width: 40rem; overflow-wrap: anywhere; }
.given { color: var(--wrong); font-weight: 600; } .suggested { color: var(--right); font-weight: 600; }
img { display: block; width: 96px; height: 96px; object-fit: contain; background: var(--faint); }
tr[hidden] { display: none; }
@media (max-width: 40rem) {
  #suspects, #suspects tbody { display: block; } #suspects thead { display: none; }
  #suspects tr { display: block; border-bottom: 2px solid var(--line); padding: .5rem 0; }
  #suspects tr[hidden] { display: none; }
  #suspects td { display: grid; grid-template-columns: 7rem 1fr; gap: .5rem; border: 0; padding: .1rem 0; min-width: 0;
    text-align: left; overflow-wrap: anywhere; }
  #suspects td::before { content: attr(data-name); opacity: .7; }
}
@media print { .tools { display: none; } th, td { font-size: .75rem; } }
"""

SCRIPT = """
const rows = [...document.querySelectorAll('#suspects tbody tr')];
const given = document.getElementById('given'), suggested = document.getElementById('suggested');
const words = document.getElementById('words'), wrong = document.getElementById('wrong');
function filter() {
  const text = words.value.toLowerCase(); let shown = 0;
  for (const row of rows) {
    const fits = (!given.value || row.dataset.given === given.value)
      && (!suggested.value || row.dataset.suggested === suggested.value)
      && (!wrong.value || row.dataset.wrong === wrong.value)
      && (!text || row.textContent.toLowerCase().includes(text));
    row.hidden = !fits; shown += fits;
  }
  document.getElementById('shown').textContent = `${shown} of ${rows.length} samples shown`;
}
for (const part of [given, suggested, words, wrong]) part && part.addEventListener('input', filter);
const heads = [...document.querySelectorAll('#suspects th')], order = document.getElementById('order');
if (order) {
  for (const head of heads) order.append(new Option(head.textContent, heads.indexOf(head)));
  order.addEventListener('input', () => {
    if (!order.value) { document.getElementById('suspects').tBodies[0].append(...rows); return; }
    heads[order.value].removeAttribute('aria-sort'); sort(heads[order.value]);
  });
}
if (rows.length) filter();
"""


def found_page(found: Found, top: int | None = None) -> str:
    """The HTML page.

    Args:
        top: how many samples are listed; None for the probably wrong ones.
    """
    title = f"Label errors in {found.what}"
    body = "\n".join(_body(found, min(len(found.wrong) if top is None else top, found.n)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{SORTABLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f"{body}\n</main>\n<script>{SORTING}{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _body(found: Found, count: int) -> Iterator[str]:
    yield f'<p class="count">{escape(headline(found))}</p>'
    yield f"<p>{escape(agreement(found))}</p>"
    sizes = ", ".join(f"{name} {size}" for name, size in zip(found.classes, found.counts, strict=True))
    told = "".join(f"<p>{escape(note)}</p>" for note in [f"{found.n} samples: {sizes}.", *found.notes])
    yield f"<details><summary>How the data was read</summary>{told}</details>"
    listed = min(count, MOST_ROWS)
    if listed:
        yield f"<h2>{'Probably wrong labels' if count == len(found.wrong) else 'Most suspicious labels'}</h2>"
        if listed < count:
            yield f"<p>The first {listed} of {count}; <code>--format csv</code> lists all.</p>"
        yield _tools(found, listed)
        yield _suspects(found, listed)
    if len(found.pairs):
        yield "<h2>By pair of classes</h2>"
        share = [f"{100 * value:.1f} %" for value in found.pairs["share_of_given"]]
        yield _table(found.pairs.assign(share_of_given=share))
    if found.compared is not None:
        compared = found.compared
        yield "<h2>Detectors on planted errors</h2>"
        expected, low, high = (100 * value for value in compared.precision)
        yield (
            f"<p>{compared.planted} errors were planted in each of {compared.runs} copies of {compared.samples} "
            "samples. "
            f"The numbers are average precisions, with the 95 % interval of their mean. Of as many suspects as labels "
            f"are wrong, expect {expected:.0f} % to be wrong (95 % prediction interval {low:.0f} to {high:.0f} %).</p>"
        )
        yield _table(compared.table)
        if compared.left_out:
            left = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in compared.left_out.items())
            yield f"<details><summary>Detectors that were not compared</summary><ul>{left}</ul></details>"
    if len(found.duplicates):
        yield "<h2>Duplicates</h2>"
        yield f"<p>{len(found.duplicates)} samples have duplicates. Sets with different labels come first.</p>"
        yield _table(found.duplicates.head(MOST_ROWS))


def _tools(found: Found, count: int) -> str:
    table = found.ranked.head(count)

    def choice(name: str, told: str, values: Sequence[str]) -> str:
        options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)
        return f'<label>{told}<select id="{name}"><option value="">all</option>{options}</select></label>'

    return (
        '<div class="tools">'
        + choice("given", "given label", sorted(set(map(str, table["given"]))))
        + choice("suggested", "suggested label", sorted(set(map(str, table["suggested"]))))
        + choice("wrong", "probably wrong", ["yes", "no"])
        + '<label>sort by<select id="order"><option value="">as ranked</option></select></label>'
        + '<label>words<input id="words" type="search" placeholder="filter"></label></div><p id="shown"></p>'
    )


def _suspects(found: Found, count: int) -> str:
    pictures = _pictures(found, count)
    table, own = found.ranked.head(count), found.columns.head(count)
    own = own[[name for name in own.columns if not own[name].astype(str).equals(table["given"].astype(str))]]
    own = own.iloc[:, :MOST_COLUMNS]
    heads = ["row", *(["image"] if pictures else []), "given", "suggested", "probability", "score", "probably wrong"]
    heads += [str(name) for name in own.columns]
    lines = []
    for k in range(count):
        record = table.iloc[k]
        given, suggested = str(record["given"]), str(record["suggested"])
        yes = "yes" if record["probably_wrong"] else "no"
        cells = [_cell("row", str(table.index[k]), "n")]
        if pictures:
            cells.append(f'<td data-name="image"><img alt="" loading="lazy" src="{pictures[k]}"></td>')
        cells += [
            _cell("given", given, "given"),
            _cell("suggested", suggested, "suggested"),
            _cell("probability", f"{record['probability']:.3f}", "n"),
            _cell("score", f"{record['score']:.4f}", "n"),
            _cell("probably wrong", yes),
            *(_cell(str(name), _shown(own.iloc[k, c])) for c, name in enumerate(own.columns)),
        ]
        kept = f'data-given="{escape(given)}" data-suggested="{escape(suggested)}" data-wrong="{yes}"'
        lines.append(f"<tr {kept}>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return _scrolled("suspects", head, lines)


def _cell(name: str, text: str, kind: str = "") -> str:
    kind = kind or ("text" if len(text) > 30 else "n" if text.replace(".", "").replace("-", "").isdigit() else "")
    mark = f' class="{kind}"' if kind else ""
    return f'<td data-name="{escape(name)}"{mark}>{escape(text)}</td>'


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _table(frame: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in frame.columns)
    names = [str(name) for name in frame.columns]
    lines = []
    for record in frame.itertuples(index=False):
        texts = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in record]
        cells = [_cell(name, text) for name, text in zip(names, texts, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scrolled("", head, lines)


def _scrolled(name: str, head: str, lines: Sequence[str]) -> str:
    """A table in a box that scrolls sideways."""
    mark, rows = f' id="{name}"' if name else "", "\n".join(lines)
    return f'<div class="wide"><table{mark}><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _pictures(found: Found, count: int) -> list[str]:
    """The first samples' pictures as data addresses; empty if the samples are no images."""
    if found.task is None:
        return []
    split, _ = found.task.load(0)
    addresses = []
    for start in range(0, count, 256):
        try:
            pictures = found.task.pictures(split, np.asarray(found.positions[start : min(start + 256, count)]))
        except Unsupported:
            return []
        addresses += [_address(picture) for picture in pictures]
    return addresses


def _address(picture: np.ndarray) -> str:
    from PIL import Image

    encoded = io.BytesIO()
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    image.save(encoded, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
