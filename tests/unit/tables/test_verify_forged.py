"""Whoever touches a printed table is found out: heads, order, odd lines, what has no stamp."""

import re

import pytest

from fairbench.core.files import read_json, write_sealed
from fairbench.page import collect_content, render_page
from fairbench.records.results_folder import scan
from fairbench.registry import Registry
from fairbench.tables.formats import render
from fairbench.tables.request import TableRequest
from fairbench.tables.verify import is_report, verify_tables
from fairbench.tables.views import build_tables

SUFFIX = {"latex": ".tex", "markdown": ".md", "html": ".html", "csv": ".csv"}


@pytest.fixture
def runs(results):
    for seed in (0, 1):
        results.run("trades", seed, robust=((6, 5, 4 - seed),), counted=True)
        results.run("dafa", seed, robust=((6, 4 + seed, 5),), counted=True)
    return results


def printed(runs, format, **options):
    return render(build_tables(scan(runs.path)[0], TableRequest(**options)), format)


def faults(runs, text, format):
    checks = verify_tables(text, SUFFIX[format], scan(runs.path)[0])
    return [fault for check in checks for fault in check.faults]


def swapped(text, one, other):
    assert one in text
    assert other in text
    return text.replace(one, "\0").replace(other, one).replace("\0", other)


@pytest.mark.parametrize(
    ("format", "one", "other"),
    [
        ("latex", "{Clean}", "{Robust}"),
        ("latex", "& Average", "& Worst"),
        ("markdown", "| clean ", "| robust "),
        ("markdown", " average |", " worst |"),
        ("html", ">clean</th>", ">robust</th>"),
        ("html", ">average</th>", ">worst</th>"),
        ("csv", "clean_average,", "robust_average,"),
    ],
)
def test_swapped_heads_are_found(runs, format, one, other):
    text = printed(runs, format, columns=("average", "worst"))
    assert not faults(runs, text, format)
    assert faults(runs, swapped(text, one, other), format)


@pytest.mark.parametrize(
    ("format", "one", "other"),
    [
        ("latex", "& Dafa", "& Trades"),
        ("markdown", "| dafa ", "| trades "),
        ("html", ">dafa</th>", ">trades</th>"),
    ],
)
def test_swapped_methods_are_found_where_they_are_columns(runs, format, one, other):
    text = printed(runs, format, view="classes")
    assert faults(runs, swapped(text, one, other), format)


def lines_of(text, format):
    """The lines, and the place of the row of dafa."""
    start = {"latex": "dafa &", "markdown": "| dafa", "html": '<tr><th scope="row">dafa', "csv": "digits,"}
    lines = text.splitlines()
    return lines, max(k for k, line in enumerate(lines) if line.startswith(start[format]))


@pytest.mark.parametrize("format", SUFFIX)
def test_a_row_twice_or_in_another_place_or_gone_is_found(runs, format):
    lines, k = lines_of(printed(runs, format, columns=("average", "worst")), format)
    assert any(
        "differs from" in each
        for each in faults(runs, "\n".join([*lines, ""]).replace(lines[k], "\n".join([lines[k]] * 2)), format)
    )
    lines[k - 1 : k + 1] = lines[k], lines[k - 1]
    order = "its lines are in another order than those of the records"
    assert faults(runs, "\n".join(lines), format) == [order]
    del lines[k - 1]
    assert faults(runs, "\n".join(lines), format)


@pytest.mark.parametrize(
    ("format", "forge"),
    [
        ("latex", lambda row: f"{row}[0pt]\n{row}"),
        ("latex", lambda row: f"{row} %\n{row}"),
        ("latex", lambda row: f"{row} \\addlinespace\n{row}"),
        ("latex", lambda row: row[:-2] + f"\\tabularnewline\n{row}"),
        ("latex", lambda row: f"ours & 99.99\n\\\\\n\\iffalse\n{row}\n\\fi"),
        ("latex", lambda row: f"% {row}"),
        ("html", lambda row: f"<tr><th scope='row'>ours</th><td>99.99</td></tr>\n{row}"),
        ("html", lambda row: f"{row}<TR><TD>ours</TD></TR>"),
        ("html", lambda row: f"<!--\n{row}\n-->"),
        ("markdown", lambda row: f"{row}\nours | 99.99 | 99.99"),
        ("markdown", lambda row: f"<!--\n{row}\n-->"),
    ],
)
def test_rows_that_look_like_none_are_found(runs, format, forge):
    text = printed(runs, format)
    lines, k = lines_of(text, format)
    assert faults(runs, text.replace(lines[k], forge(lines[k])), format)


@pytest.mark.parametrize("format", ["latex", "markdown", "html"])
def test_a_table_without_a_stamp_is_found_wherever_it_stands(runs, format):
    text = printed(runs, format, view="fairness")
    bare = "\n".join(line for line in text.splitlines() if "fairbench-" not in line)
    assert faults(runs, f"{text}\n{bare}", format)
    assert faults(runs, f"{bare}\n{text}", format)
    last = text[: text.rindex("fairbench-table")]
    assert faults(runs, last, format)


@pytest.mark.parametrize(
    ("format", "table"),
    [
        ("latex", "\\begin{longtable}{lr}\nours & 99.99\n\\end{longtable}"),
        ("latex", "\\begin{tabular}{lr} ours & 99.99 \\end{tabular}"),
        ("markdown", "ours | 99.99\n---|---\nmine | 99.98"),
        ("markdown", "<table><tr><td>ours</td></tr></table>"),
        ("html", "<TABLE><tr><td>ours"),
    ],
)
def test_a_table_of_another_make_is_found(runs, format, table):
    assert faults(runs, f"{printed(runs, format)}\n\n{table}\n", format)


def test_csv_rows_without_options_and_columns_that_are_there_twice_are_found(runs):
    text = printed(runs, "csv")
    head, *rows = text.splitlines()
    blank = ",".join("" if name != "entry" else "ours" for name in head.split(","))
    assert faults(runs, f"{text}{blank}\n", "csv")
    lines = [f"{head},method", *(f"{row},ours" for row in rows)]
    assert "the column 'method' is there twice" in faults(runs, "\n".join(lines), "csv")
    published = ",".join("published" if name == "view" else "" for name in head.split(","))
    assert not faults(runs, f"{text}{published}\n", "csv")
    assert faults(runs, f"{head}\n{rows[0]}\n", "csv")
    assert faults(runs, f"{text.rstrip()},more\n", "csv")


def test_a_record_that_counts_other_images_than_its_outcomes_is_found(runs):
    text = printed(runs, "markdown")
    for record in scan(runs.path)[0]:
        if record.method == "dafa":
            content = read_json(record.folder / "record.json")
            write_sealed(record.folder / "record.json", {**content, "class_count": [10, 10, 7]})
    found = faults(runs, text, "markdown")
    assert any("counts other images of the classes" in fault for fault in found)


def test_the_tables_of_a_report_are_checked_and_the_rest_is_not(runs):
    text = render_page(collect_content(scan(runs.path)[0], Registry()))
    assert is_report(text, ".html")
    assert not faults(runs, text, "html")
    assert faults(runs, text.replace(">average</th>", ">worst</th>", 1), "html")
    row = re.search(r'\n<tr><th scope="row">dafa.*', text)[0]
    assert faults(runs, text.replace(row, "", 1), "html")


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ('"order":[]', '"order":[{}]'),
        ('"order":[]', '"order":"ab"'),
        ('"order":[]', '"order":[],"claims":3'),
        ('"order":[]', '"order":[],"claims":"nobody"'),
        ('"order":[]', '"order":[],"claims":"/nowhere.csv"'),
        ('"view":"main"', '"view":"fairnes"'),
        ('"view":"main"', '"view":["main"]'),
        ('"columns":[]', '"columns":[3]'),
        ('"columns":[]', '"columns":{"a":1}'),
        ('"error":"t95"', '"error":["t95"]'),
        ('"baseline":"trades"', '"baseline":null'),
        ('"sides":["clean","robust"]', '"sides":3'),
        ('"sides":["clean","robust"]', '"sides":[{}]'),
        ('"attack":"pgd-20"', '"attack":"autoattack"'),
        ('"settings":"', '"settings":"0'),
        ('"settings":"', '"other":"'),
    ],
)
def test_a_stamp_that_makes_no_table_is_a_fault(runs, there, instead):
    text = printed(runs, "latex")
    assert there in text
    assert any(
        "it cannot be made again: " in fault for fault in faults(runs, text.replace(there, instead), "latex")
    )
