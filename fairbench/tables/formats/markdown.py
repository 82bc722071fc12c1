"""Tables for a README or a notebook."""

import re
from collections.abc import Sequence

from fairbench.tables.escapes import markdown
from fairbench.tables.formats import html
from fairbench.tables.formats.numbers import NEAR, Shown, legend, shown
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Row, Table

_RULE = re.compile(r"(?=.*-)(?=.*\|)[-:|>\s]+")  # below the head of a table


def document(tables: Sequence[Table]) -> str:
    """The tables below each other, each followed by its stamp as a comment."""
    return "\n\n".join(_table(table) for table in tables) + "\n"


def _table(table: Table) -> str:
    lines = [f"**{markdown(table.title)}**", ""]
    if table.rows:
        several = len(table.groups) > 1
        names = [f"{c.group} {c.header}" if several else c.header for c in table.columns]
        lines.append(f"| {' | '.join([table.head, *map(markdown, names)])} |")
        lines.append("|---|" + "---:|" * len(table.columns))
        lines += rows(table)
        lines.append("")
    lines.append(markdown(f"{table.caption} {legend(table, 'In bold', NEAR)}".strip()))
    if table.notes:
        lines += ["", *(f"- {markdown(note)}" for note in table.notes)]
    if table.evidence:
        lines += ["", "<!--", *stamp(table), "-->"]
    return "\n".join(lines)


def rows(table: Table) -> list[str]:
    """The lines with numbers."""
    return [
        f"| {' | '.join([markdown(row.title or row.label), *_numbers(row, table)])} |" for row in table.rows
    ]


def printed_lines(text: str) -> list[str]:
    """The lines of all tables in a text, heads too: whatever stands between blank lines with a rule."""
    shown = re.sub(r"(?s)<!--.*?(-->|\Z)", "", text)
    found = []
    for block in re.split(r"\n\s*\n", shown):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if any(map(_RULE.fullmatch, lines)):
            found += [line for line in lines if not _RULE.fullmatch(line)]
    return found + html.printed_lines(text)


def _numbers(row: Row, table: Table) -> list[str]:
    cells = zip(row.cells, table.columns, strict=True)
    return [_number(shown(cell, column, table)) for cell, column in cells]


def _number(number: Shown) -> str:
    value, *rest = number.plain().split(" ", 1)
    return " ".join([f"**{value}**" if number.best else value, *rest]) + (NEAR if number.near else "")
