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
from reports.page import Figure, html_page
from reports.table import markdown_table
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
    assert found.tags.count("script") == 1  # the page's own, which sorts
    assert "b" not in found.tags
    assert found.sources == ["#section-1", "#section-2"]
    assert found.ids == ["section-1", "section-2"]
    assert page.count('style="text-align:right"') == 3


def test_a_page_holds_its_figures() -> None:
    found = Reader(html_page(REPORT, [Figure("Figure 5: <gain>", b"\x89PNG")]))
    assert found.sources == ["#section-1", "#section-2", "#section-3", "data:image/png;base64,iVBORw=="]
    assert found.ids[-1] == "section-3"


def test_latex_shows_the_tables_as_they_are() -> None:
    text = latex(REPORT)
    table = text[text.index(r"\begin{table}") : text.index(r"\end{table}")].splitlines()
    assert table[2:4] == [
        r"\caption{Half moons: \texttt{moons[spread=0.2]}, protocol fair}",
        r"\label{tab:half-moons-moons-spread-0-2-protocol-fair}",
    ]
    assert re.fullmatch(r"\\begin\{tabular\}\{@\{\}lrp\{130pt\}@\{\}\}", table[4])
    assert re.sub(r"\\parbox\[b\]\{\d+pt\}|\\raggedleft|\\raggedright|\\hspace\{0pt\}", "", table[6]) == (
        r"{Method} & {AUROC} & {Uses} \tabularnewline"
    )
    assert table[8].startswith(r"A \textbar{} B & \textbf{0.99 $\pm$ 0.01} & ")
    assert table[9].startswith(r"{}[odd] $\dagger$ & $-$1 & ")  # no option of the line before
    assert r"\textless{}script\textgreater{}" in table[9]
    assert table[9].endswith(r"100 \% \& \$5\_\allowbreak{}\textasciicircum{}\textasciitilde{}\#\{\} \tabularnewline")
    assert r"\subsection*{Half moons: \texttt{moons[spread=0.2]}, protocol fair}" in text
    assert "\\begin{verbatim}\nrun --tasks 'moons[a=1]' & < >\n\\end{verbatim}" in text
    assert text.count(r"\item ") == 2
    assert escaped("\\") == r"\textbackslash{}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-0.4 [-1.7, +0.8]", "$-$0.4 [$-$1.7, +0.8]"),
        ("all-MiniLM-L6-v2, 5-fold, 2026-11-27", "all-MiniLM-L6-v2, 5-fold, 2026-11-27"),
        ("Δ ≈ 3 Ω, λ ≠ Θ", r"$\Delta$ $\approx$ 3 $\Omega$, $\lambda$ $\neq$ $\Theta$"),
        ("Müller, Škoda", "Müller, Škoda"),
        ("漢 🙂", r"\texttt{U+6F22} \texttt{U+1F642}"),
    ],
)
def test_signs_that_fonts_lack(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_wide_tables_are_split_and_every_column_is_there_once() -> None:
    header = ["Method", *(f"Column {i}" for i in range(12))]
    text = latex("## Wide\n\n" + markdown_table(header, [["A", *(f"{i}.000 ± 0.000" for i in range(12))]]))
    assert text.count(r"\begin{table}") == text.count(r"\begin{tabular}") >= 3
    assert text.count(r"\caption{Wide (continued)}") == text.count(r"\begin{table}") - 1
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels)
    for i in range(12):
        assert len(re.findall(rf"(?<!\d){i}\.000 \$\\pm\$", text)) == 1
    assert len(re.findall(r"^A & ", text, re.MULTILINE)) == len(labels)


LONG = ["Method", "AUROC", "Precision at #errors %", "Gain, points [95 % CI]", "Total s", "Uses", "Printed: accuracy"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles_and_fits_the_page(tmp_path: Path) -> None:
    start = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    row = ["A detector with a rather long title `[damping=0.01,iterations=10]`", "**0.987 ± 0.012**", "98.0 ± 4.5"]
    row += ["-0.4 [-1.7, +0.8]", "1,634", "labels, gradients, clean validation, out-of-sample probabilities", "87.0"]
    text = REPORT + "\n\n## Δ of long names 漢\n\n" + markdown_table(LONG, [row, row])
    (tmp_path / "a.tex").write_text(start + latex(text) + r"\end{document}", "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]
    tables = re.findall(r"Overfull \\hbox \((\d+)\.\d+pt too wide\) in (?:alignment|paragraph)", done.stdout)
    assert not tables, done.stdout


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
    assert sum(source.startswith("data:image/png") for source in page.sources) == 5
    for title in ("Figure 5 of the paper: gain by trimming budget", "Wrong labels found by samples inspected"):
        assert f'alt="{title}"' in texts["html"]
    titles = [line.split("|")[1].strip() for line in lines]
    assert texts["latex"].count("No trimming & ") >= titles.count("No trimming") > 1
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
