"""The same table in every format, and names that try to be markup."""

import csv
import io
import re

import pytest

from fairbench.core.errors import UnknownNameError
from fairbench.records.results_folder import scan
from fairbench.tables.escapes import csv_text, latex, markdown, plain
from fairbench.tables.formats import FORMATS, render
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables

EVIL = "a_b & 50% $x$ #1 {y} ~^ \\def|`*<b>\x1b[31m\nnext\u202e --x"
SIX = TableRequest(columns=("average", "worst", "rho"))


@pytest.fixture
def tables(results):
    results.run("trades", 0, clean=((9, 9, 6),), robust=((6, 5, 4),))
    results.run("trades", 1, clean=((9, 9, 8),), robust=((6, 5, 3),))
    results.run("dafa", 0, clean=((8, 8, 8),), robust=((5, 4, 5),))
    results.run("dafa", 1, clean=((7, 8, 6),), robust=((5, 4, 4),))
    return build_tables(scan(results.path)[0], SIX)


@pytest.fixture
def evil(results):
    results.run("trades", 0)
    results.run(EVIL, 0, warnings=[EVIL], names=[EVIL, "dog", "=1+1"])
    results.run("=HYPERLINK(1)", 0)
    return build_tables(scan(results.path)[0], SIX)


def test_text_is_aligned_and_marks_the_best(tables):
    text = render(tables)
    head, rule, trades, _, _, head_below, _, trades_below, dafa = text.splitlines()[2:11]
    assert re.split(r"\s{2,}", head) == ["clean", "average", "worst", "rho"]
    assert re.split(r"\s{2,}", head_below) == ["robust", "average", "worst", "rho"]
    assert set(rule) == {"-", " "}
    assert trades.startswith("trades  ")
    assert "83.33 [41, 100]*" in trades  # ± 42.4 would leave what an accuracy can be
    assert "35.00 [0, 99]" in trades_below
    assert "48.33 ± 21.2" in trades_below  # of ± 21 a second decimal says nothing
    assert "40.00 ± 0.00*" in dafa
    assert "* marks the best mean" in text
    assert max(map(len, text.splitlines())) <= 80


def test_markdown_has_seven_columns_in_every_row(tables):
    rows = [line for line in render(tables, "markdown").splitlines() if line.startswith("|")]
    assert [line.count("|") for line in rows] == [8] * 4
    assert "| trades | **83.33** [41, 100] |" in rows[2]


def test_latex_needs_booktabs_only_and_is_balanced(tables):
    text = render(tables, "latex")
    assert re.search(r"\ntrades & \\textbf\{83\.33\}\\,\{\\(tiny|scriptsize) \[41, 100\]\}", text)
    assert r"\multicolumn{3}{c}{Clean}" in text
    assert r"\toprule" in text
    assert r"$\rho$" in text
    for name, count in (("table*", 1), ("tabular", 2), ("minipage", 1)):  # clean above robust
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == count
    rows = [line for line in text.splitlines() if line.startswith(("trades &", "dafa &"))]
    assert all(line.count("&") == 3 and line.endswith(r"\\") for line in rows)
    assert text.isascii()
    assert not re.search(r"&\s*-\d", text)


def test_latex_labels_are_distinct(tables):
    labels = re.findall(r"\\label\{(.*)\}", render([*tables, *tables], "latex"))
    assert len(set(labels)) == 2
    assert labels[0] == "tab:digits-cnn-small-quickstart-pgd-20"


def test_csv_has_one_tidy_row_per_entry_with_unrounded_numbers(tables):
    rows = list(csv.DictReader(io.StringIO(render(tables, "csv"))))
    assert [row["method"] for row in rows] == ["trades", "dafa"]
    (table,) = tables
    cell = table.rows[1].cells[5]
    assert float(rows[1]["robust_rho"]) == cell.value
    assert float(rows[1]["robust_rho_half_width"]) == cell.half_width
    assert float(rows[1]["robust_rho_sd"]) == cell.sd
    assert (rows[0]["num_seeds"], rows[0]["seeds"], rows[0]["clean_rho_half_width"]) == ("2", "0 1", "")
    assert rows[0]["protocol_version"] == "2"
    assert rows[0]["rho_convention"] == "signed"


def test_every_format_prints_the_same_means(tables):
    shown = {
        f"{100 * cell.value:.2f}" for row in tables[0].rows for k, cell in enumerate(row.cells) if k % 3 != 2
    }
    for format in ("text", "markdown", "latex"):
        assert shown <= set(re.findall(r"\d+\.\d\d", render(tables, format)))


def test_the_standard_deviation_is_printed_on_request(results, tables):
    (table,) = build_tables(scan(results.path)[0], TableRequest(columns=SIX.columns, error="sd"))
    assert "83.33 ± 4.71*" in render([table])


def test_rho_is_printed_with_its_sign(tables):
    text = render(tables)
    assert re.search(r"[+]0\.\d\d ±", text)
    assert re.search(r"-0\.\d\d ±", text)
    assert " 0.00" in text
    assert "-0.00 " not in text
    assert "+0.00 " not in text
    assert "$-$0." in render(tables, "latex")


def test_no_name_breaks_out_of_its_cell(evil):
    for format in ("text", "markdown", "latex", "csv"):
        text = render(evil, format)
        assert "\x1b" not in text
        assert "\u202e" not in text
    rows = [line for line in render(evil, "markdown").splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in rows] == [8] * 5
    rows = list(csv.DictReader(io.StringIO(render(evil, "csv"))))
    assert len(rows) == 3
    assert all(None not in row for row in rows)
    assert not any(value.startswith("=") for row in rows for value in row.values())
    blocks = render(evil, "latex").split(r"\midrule")[1:]
    for block in blocks:
        body = block.split(r"\bottomrule")[0].strip().splitlines()
        assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [6 // len(blocks)] * 3
    assert "p{130pt}" in render(evil, "latex")  # a long name has several lines


def test_every_character_that_means_something_to_latex_is_escaped():
    assert latex("50% & $x_1$ #{}") == r"50\% \& \$x\_1\$ \#\{\}"
    assert latex("\\~^<") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}$<$"
    assert latex("fairbench run --methods a---b") == "fairbench run -{}-methods a-{}-{}-b"
    assert latex("\u4e2d") == "[U+4E2D]"
    assert latex("\N{PLUS-MINUS SIGN}") == r"$\pm$"


def test_escapes_of_the_other_formats():
    assert plain("a\tb\x00") == "a\\tb\\x00"
    assert markdown("a|b_<c>") == "a\\|b\\_&lt;c&gt;"
    assert csv_text("=1") == "'=1"
    assert csv_text("a=1") == "a=1"


def test_an_unknown_format_is_refused_with_a_suggestion(tables):
    assert set(FORMATS) == {"text", "markdown", "latex", "csv", "html"}
    with pytest.raises(UnknownNameError, match="did you mean: latex"):
        render(tables, "latx")
