"""Reports as HTML pages and as LaTeX: the same tables, and nothing of a result taken for a command."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import harness
from harness.cli import main
from reports.latex import escaped, latex
from reports.markdown import markdown_table
from reports.page import html_page
from reports.words import seconds

HOSTILE = r"<script>alert(1)</script> \input{x} 100 % & $5_^~#{}"
REPORT = "\n\n".join(
    [
        "# Results <b>",
        "Made by:\n\n```\nrun --tasks 'moons[a=1]' & < >\n```",
        "## Half moons: `moons[spread=0.2]`, protocol fair",
        markdown_table(["Method", "AUROC", "Uses"], [["A | B", "**0.99 ± 0.01**", "—"], ["[odd] †", "−1", HOSTILE]]),
        "*Printed: elsewhere.*",
        f"- `lissa`: {HOSTILE}\n- second",
        "## Second",
    ]
)


class Reader(HTMLParser):
    """Rows of cells, headings, links' targets and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.sources += [str(found[name]) for name in ("src", "href") if name in found]
        self.ids += [str(found["id"])] if "id" in found else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_a_page_shows_the_tables_as_they_are() -> None:
    page = html_page(REPORT)
    found = Reader(page)
    assert found.rows == [["Method", "AUROC", "Uses"], ["A | B", "0.99 ± 0.01", "—"], ["[odd] †", "−1", HOSTILE]]
    assert "<title>Results &lt;b&gt;</title>" in page
    assert "script" not in found.tags
    assert "b" not in found.tags
    assert found.sources == ["#section-1", "#section-2"]
    assert found.ids == ["section-1", "section-2"]
    assert page.count('style="text-align:right"') == 3


def test_a_page_holds_its_figures() -> None:
    found = Reader(html_page(REPORT, [("Figure 5: <gain>", b"\x89PNG")]))
    assert found.sources == ["#section-1", "#section-2", "#section-3", "data:image/png;base64,iVBORw=="]
    assert found.ids[-1] == "section-3"


def test_latex_shows_the_tables_as_they_are() -> None:
    text = latex(REPORT)
    table = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")].splitlines()
    assert table[0] == r"\begin{tabular}{lrl}"
    assert table[2] == r"Method & AUROC & Uses \\"
    assert table[4] == r"A \textbar{} B & \textbf{0.99 $\pm$ 0.01} & --- \\"
    assert table[5].startswith(r"{}[odd] $\dagger$ & $-$1 & \textless{}script\textgreater{}")  # no option of \\
    assert table[5].endswith(r"100 \% \& \$5\_\textasciicircum{}\textasciitilde{}\#\{\} \\")
    assert r"\subsection*{Half moons: \texttt{moons[spread=0.2]}, protocol fair}" in text
    assert "\\begin{verbatim}\nrun --tasks 'moons[a=1]' & < >\n\\end{verbatim}" in text
    assert text.count(r"\item ") == 2
    assert escaped("\\") == r"\textbackslash{}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    start, end = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    (tmp_path / "a.tex").write_text(start + latex(REPORT) + end, "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("results") / "out"
    harness.run("none,outlier_l1,random", "moons[budget=0|0.1]", 2, preset="smoke", out=out)
    return str(out)


def test_report_in_every_format(swept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All tables of the markdown are on the page and in LaTeX; the page has the figure that the results allow."""
    texts = {}
    for form in ("md", "html", "latex"):
        assert main(["report", swept, "--format", form, "--output", str(tmp_path / form)]) == 0
        texts[form] = (tmp_path / form).read_text("utf-8")
    lines = [line for line in texts["md"].splitlines() if line.startswith("| ") and "---" not in line]
    page = Reader(texts["html"])
    assert len(page.rows) == len(lines) > 5
    assert sum(source.startswith("data:image/png") for source in page.sources) == 1
    assert "Figure 5: gain by trimming budget" in texts["html"]
    assert len(re.findall(r" \\\\$", texts["latex"], re.MULTILINE)) == len(lines)
    capsys.readouterr()
    assert main(["report", swept, "--table", "1", "--format", "latex"]) == 0
    assert r"\section*{Table 1: Detection and accuracy on the moons}" in capsys.readouterr().out


def test_figures_have_formats_of_their_own(swept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", swept, "--figure", "5", "--format", "html"]) == 2
    assert "--format html is for tables; a figure's format is the suffix of --output" in capsys.readouterr().err


def test_seconds_are_readable() -> None:
    assert [seconds(value) for value in (None, 0.00123, 0.5, 61.26, 999.6, 1634.2)] == [
        "—", "0.0012", "0.5", "61.3", "1,000", "1,634",
    ]  # fmt: skip
