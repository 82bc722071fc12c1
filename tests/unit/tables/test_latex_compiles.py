"""LaTeX tables go through pdflatex with booktabs alone, fit the page, and print their numbers."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from results_builder import ResultsBuilder

from fairbench.records.results_folder import scan
from fairbench.tables.formats import latex, render
from fairbench.tables.published_results import read_published, with_published
from fairbench.tables.published_tables import published_tables
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.views import build_tables

pytestmark = pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("pdftotext") is None,
    reason="needs pdflatex and pdftotext (Debian: texlive-latex-recommended, poppler-utils)",
)
EVIL = "a_b & 50% $x$ #1 {y} ~^ \\def|`*<b>\x1b[31m\nnext\u202e --x \u4e2d\u6587 \u00e9"
DOCUMENT = r"""\documentclass%s{article}
\usepackage{booktabs}
\begin{document}
\input{tables}
\end{document}
"""


def compiled(tables, folder, options=""):
    """The text of the pages and the log; options: of the document class, such as [twocolumn]."""
    (folder / "tables.tex").write_text(render(tables, "latex"), encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT % options)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="latin-1",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    text = subprocess.run(
        ["pdftotext", "-layout", "paper.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True
    )
    return text.stdout, done.stdout


def too_large(log):
    """Boxes that leave the page or the column, and floats that are longer than a page."""
    return [line for line in log.splitlines() if line.startswith("Overfull") or "Float too large" in line]


def sizes(tables):
    """The sizes of the text in LaTeX tables."""
    return set(re.findall(r"\\(small|footnotesize|scriptsize|tiny)\b", render(tables, "latex")))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Every view of three and of eight methods, of 10 and of 100 classes, one with published rows."""
    methods = ("trades", "targeted-trades", "trix", "dafa-autoaugment", "fairtat-at", "cfa", "mart", "wat")
    tables = []
    for number, (count, classes) in enumerate(((3, 10), (8, 10), (8, 100))):
        results = ResultsBuilder(tmp_path_factory.mktemp("results") / str(number))
        for seed in range(3):
            for k, method in enumerate(methods[:count]):
                hits = [[(40 + 3 * c + 2 * k + seed * (1 + k % 3) * 4) % 101 for c in range(classes)]]
                titles = {"method": method.upper()}
                results.run(method, seed, clean=hits, robust=hits, size=100, counted=True, titles=titles)
        records = scan(results.path)[0]
        tables += [table for view in VIEWS for table in build_tables(records, TableRequest(view=view))]
        tables += build_tables(records, TableRequest(columns=("worst",)))
    published = replace(tables[0], dataset="cifar10", model="")
    return [*tables, with_published(published, read_published("trix"), "trix")]


@pytest.mark.parametrize("options", ["", "[twocolumn]"])
def test_every_view_fits_an_article_in_a_readable_size(built, tmp_path, options):
    text, log = compiled(built, tmp_path, options)
    assert too_large(log) == []
    for words in ("TARGETED-TRADES", "Floor", "Classes up", "95 % limits", "class 9", "class 99"):
        assert words in text
    assert sizes(built) == {"small", "footnotesize", "scriptsize"}  # the last for errors and limits alone
    blocks = re.findall(r"\\(\w+)\n\\setlength", render(built, "latex"))
    assert set(blocks) <= {"small", "footnotesize"}


def test_a_narrow_table_stays_in_its_column(results, built):
    results.run("trades", 0)
    text = render(build_tables(scan(results.path)[0], TableRequest(columns=("worst",))), "latex")
    assert r"\begin{table}[t]" in text
    assert r"\begin{table*}[t]" in render(built, "latex")


def test_where_a_table_is_broken_makes_no_difference_to_its_lines(built, monkeypatch):
    def lines():
        return [latex.printed_lines(render([table], "latex")) for table in built]

    broken = lines()
    monkeypatch.setattr(latex, "TEXT_WIDTH", 5000.0)
    monkeypatch.setattr(latex, "PAGE_LINES", 5000)
    assert lines() == broken


def test_the_papers_tables_compile_with_their_numbers(tmp_path):
    text, log = compiled(published_tables("trix"), tmp_path)
    assert too_large(log) == []
    lines = [line for line in text.splitlines() if line.strip().startswith("TRADES + TRIX")]
    for number in ("82.68", "69.98", "+0.05", "49.09", "32.65", "+0.39"):
        assert number in " ".join(lines[:2])


def test_names_that_look_like_an_argument_or_lack_a_glyph_compile(results, tmp_path):
    names = ["[1em] cat", "*dog", "\xab\xbb\xd0\xde\xf0\xfe"]
    for seed, name in enumerate(["trades", "[2] mine", "*best", "\xab\xfe\xbb"]):
        results.run(name, 0, names=names, clean=((9, 8, 7 - seed),), robust=((6, 5, 4 - seed),))
    records = scan(results.path)[0]
    text, _ = compiled(
        [t for view in VIEWS for t in build_tables(records, TableRequest(view=view))], tmp_path
    )
    assert "[2] mine" in text
    assert "*best" in text


def test_names_that_try_to_be_markup_compile(results, tmp_path):
    results.run("trades", 0)
    results.run(EVIL, 0, warnings=[EVIL], names=[EVIL, "dog", "=1+1"], titles={"method": EVIL})
    records = scan(results.path)[0]
    tables = [table for view in VIEWS for table in build_tables(records, TableRequest(view=view))]
    text, _ = compiled(tables, tmp_path)
    assert "50%" in text
