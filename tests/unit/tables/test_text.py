"""Tables in a terminal: no line is too long, no number is broken, colours add nothing but colours."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.cli.output import painter
from fairbench.records.results_folder import scan
from fairbench.tables.captions import WIDTH
from fairbench.tables.formats import text
from fairbench.tables.formats.numbers import shown_cells
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.table import Column, Row, Table, TableCell
from fairbench.tables.views import build_tables

SCREEN = 24  # lines
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
share = st.floats(0, 1).map(lambda x: round(x, 3))
cells = st.builds(TableCell, value=share, half_width=share, sd=share, best=st.booleans(), near=st.booleans())


@st.composite
def tables(draw):
    """A table of one or two groups, up to a dozen columns, and names of any length."""
    groups = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    columns = tuple(
        Column(f"{side}_{k}", draw(st.text("abc ", min_size=1, max_size=14)), side)
        for side, count in zip(("clean", "robust"), groups, strict=False)
        for k in range(count)
    )
    names = draw(st.lists(st.text("xyz (=,)", min_size=1, max_size=90), min_size=1, max_size=4))
    rows = tuple(Row("m", name, tuple(draw(cells) for _ in columns)) for name in names)
    words = (("One seed.",), ("One seed, in full.",), ("Definition.",))
    return Table("d", "n", "p", "1", "a", "main", "title", *words, (), columns, rows, "t95", "signed")


@quick
@given(tables(), st.sampled_from([80, 100, 120, 200]))
def test_no_line_is_longer_than_the_terminal_and_no_number_is_broken(table, width):
    printed = text.document([table], width=width)
    assert max(map(len, printed.splitlines())) <= width
    for row in table.rows:
        for number in shown_cells(row, table):
            assert re.search(rf"(?<![\d.]){re.escape(number.plain())}(?![\d.])", printed)


def test_wide_tables_are_printed_in_blocks_and_narrow_ones_whole(results):
    for seed in (0, 1):
        results.run("trades", seed, robust=((6, 5, 4 + seed),))
        results.run("dafa", seed, robust=((6, 4 + seed, 5),))
    (table,) = build_tables(scan(results.path)[0])
    narrow, wide = (text.document([table], width=width) for width in (80, 200))
    assert [sum(line.startswith("trades ") for line in page.splitlines()) for page in (narrow, wide)] == [
        2,
        1,
    ]
    assert re.search(r"\nclean +average +worst", narrow)
    assert re.search(r"\nrobust +average +worst", narrow)
    assert re.search(r"\nmethod +average +worst", wide)


@pytest.mark.parametrize("view", VIEWS)
def test_colours_are_only_colours(results, view):
    for seed in (0, 1):
        results.run("trades", seed, robust=((6, 5, 4 + seed),))
        results.run("dafa", seed, robust=((6, 4 + seed, 5),))
    built = build_tables(scan(results.path)[0], TableRequest(view=view))
    coloured = text.document(built, paint=lambda words, style: f"\x1b[{len(style)}m{words}\x1b[0m")
    assert "\x1b" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text.document(built)


def test_colours_are_left_out_without_a_terminal_and_on_request(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert painter()("1.00", "bold green") == "1.00"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert painter()("1.00", "bold green") == "\x1b[1;32m1.00\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painter()("1.00", "bold green") == "1.00"


def test_the_last_screen_of_the_quickstart_has_at_most_24_lines_of_80_columns(results):
    titles = {"dataset": "Digits", "model": "CNN-small"}
    for seed in range(3):
        for k, method in enumerate(("trades", "dafa", "trix")):
            hits = [tuple(30 + 2 * c + 3 * k * seed for c in range(10))] * 3
            sizes = tuple(52 + c % 3 for c in range(10))
            results.run(method, seed, hits, hits, size=sizes, titles={**titles, "method": method.upper()})
    printed = text.document(build_tables(scan(results.path)[0]), explained="pointer")
    assert len(printed.splitlines()) <= SCREEN - 1  # and the prompt
    assert max(map(len, printed.splitlines())) <= WIDTH
    assert text.POINTER in printed
