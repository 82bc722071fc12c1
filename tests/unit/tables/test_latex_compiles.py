"""LaTeX tables go through pdflatex with booktabs alone, fit the page, and print their numbers."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from fairbench.records.results_folder import scan
from fairbench.tables.formats import render
from fairbench.tables.published_results import read_published, with_published
from fairbench.tables.published_tables import published_tables
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.views import build_tables

pytestmark = pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("pdftotext") is None,
    reason="needs pdflatex and pdftotext (Debian: texlive-latex-recommended, poppler-utils)",
)
EVIL = "a_b & 50% $x$ #1 {y} ~^ \\def|`*<b>\x1b[31m\nnext\u202e --x \u4e2d\u6587 \u00e9"
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{tables}
\end{document}
"""


def compiled(tables, folder):
    """The text of the pages and the log."""
    (folder / "tables.tex").write_text(render(tables, "latex"), encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT)
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


def overfull(log):
    return [line for line in log.splitlines() if line.startswith("Overfull") and "alignment" not in line]


def test_every_view_compiles_and_fits_the_page(results, tmp_path):
    for seed in range(3):
        for method, shift in (("trades", 0), ("targeted-trades", 3), ("trix", -2)):
            hits = [[60 + 3 * c + shift + seed for c in range(10)]]
            titles = {"method": method.upper()}
            results.run(method, seed, clean=hits, robust=hits, size=100, counted=True, titles=titles)
    records = scan(results.path)[0]
    tables = [table for view in VIEWS for table in build_tables(records, TableRequest(view=view))]
    tables.append(
        with_published(replace(tables[0], dataset="cifar10", model=""), read_published("trix"), "trix")
    )
    text, log = compiled(tables, tmp_path)
    assert overfull(log) == []
    for words in ("TARGETED-TRADES", "Floor", "Classes up", "95 % limits", "class 9"):
        assert words in text


def test_the_papers_tables_compile_with_their_numbers(tmp_path):
    text, log = compiled(published_tables("trix"), tmp_path)
    assert overfull(log) == []
    line = next(line for line in text.splitlines() if line.strip().startswith("TRADES + TRIX"))
    for number in ("82.68", "69.98", "+0.05", "49.09", "32.65", "+0.39"):
        assert number in line


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
