"""Tables for a README or a notebook."""

from collections.abc import Sequence

from fairbench.reporting.escapes import markdown
from fairbench.reporting.formats.numbers import NEAR, Shown, legend, shown
from fairbench.reporting.stamp import stamp
from fairbench.reporting.table import Row, Table


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


def printed_rows(text: str) -> list[str]:
    """The lines with numbers in a text."""
    found, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if inside and line.startswith("|"):
            found.append(line)
        inside = line.startswith("|---") or (inside and line.startswith("|"))
    return found


def _numbers(row: Row, table: Table) -> list[str]:
    cells = zip(row.cells, table.columns, strict=True)
    return [_number(shown(cell, column, table)) for cell, column in cells]


def _number(number: Shown) -> str:
    value, *rest = number.plain().split(" ", 1)
    return " ".join([f"**{value}**" if number.best else value, *rest]) + (NEAR if number.near else "")
