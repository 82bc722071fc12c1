"""Tables for a web page: a plain <table> with its caption and notes."""

import re
from collections.abc import Sequence

from fairbench.tables.escapes import html
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import NEAR, Shown, shown_cells
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Row, Table


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """The tables below each other, each followed by its stamp as a comment, and the legend."""
    parts = [_table(table, words_of(table, Marks(), full=full_captions)) for table in tables]
    if not full_captions:
        sentences = legend(tables, Marks())
        parts += [f'<p class="legend">{html(" ".join(sentences))}</p>\n'] if sentences else []
    return "\n".join(parts)


def _table(table: Table, words: Words) -> str:
    caption = f"<strong>{html(table.title)}</strong> {html(words.caption)}"
    lines = ['<table class="fairbench">', f"<caption>{caption}</caption>"]
    if table.rows:
        lines += ["<thead>", *heads(table), "</thead>", "<tbody>", *rows(table), "</tbody>"]
    lines.append("</table>")
    if words.notes:
        lines += ["<ul>", *(f"<li>{html(note)}</li>" for note in words.notes), "</ul>"]
    if table.evidence:
        lines += ["<!--", *stamp(table), "-->"]
    return "\n".join([*lines, ""])


def heads(table: Table) -> list[str]:
    """The two lines with headings: over groups of columns, and over columns."""
    groups = "".join(f'<th colspan="{n}" scope="colgroup">{html(group)}</th>' for group, n in table.groups)
    headers = "".join(f'<th scope="col">{html(column.header)}</th>' for column in table.columns)
    return [f"<tr><td></td>{groups}</tr>", f'<tr><th scope="col">{table.head}</th>{headers}</tr>']


def rows(table: Table) -> list[str]:
    """The lines with numbers."""
    return [_row(row, table) for row in table.rows]


def printed_tables(text: str) -> list[list[str]]:
    """The lines of each table in a page, one for each row, heads too, without the caption."""
    visible = re.sub(r"(?s)<!--.*?(-->|\Z)", "", text)
    tables = []
    for inner in re.findall(r"(?is)<table\b[^>]*>(.*?)(?:</table|\Z)", visible):
        body = re.sub(r"(?is)<caption\b[^>]*>((?!<t).)*?</caption>|</?(thead|tbody)>|\s*\n\s*", "", inner)
        tables.append([line for line in map(str.strip, re.split(r"(?i)(?=<tr\b)", body)) if line])
    return tables


def printed_lines(text: str) -> list[str]:
    """The lines of all tables in a page."""
    return [line for lines in printed_tables(text) for line in lines]


def _row(row: Row, table: Table) -> str:
    numbers = "".join(f"<td>{_number(number)}</td>" for number in shown_cells(row, table))
    kind = ' class="published"' if row.source else ""
    return f'<tr{kind}><th scope="row">{html(row.name)}</th>{numbers}</tr>'


def _number(number: Shown) -> str:
    value, *rest = html(number.plain()).split(" ", 1)
    text = f"<strong>{value}</strong>" if number.best else value
    small = f" <small>{rest[0]}</small>" if rest else ""
    return text + small + (NEAR if number.near else "")
