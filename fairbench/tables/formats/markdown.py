"""Tables for a README or a notebook."""

import re
from collections.abc import Sequence

from fairbench.tables.escapes import markdown
from fairbench.tables.formats import html
from fairbench.tables.formats.numbers import NEAR, Shown, full_caption, shown_cells
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
        lines += [_row(row, table) for row in table.rows]
        lines.append("")
    lines.append(markdown(full_caption(table)))
    if table.notes:
        lines += ["", *(f"- {markdown(note)}" for note in table.notes)]
    if table.evidence:
        lines += ["", "<!--", *stamp(table), "-->"]
    return "\n".join(lines)


def printed_lines(text: str) -> list[str]:
    """The lines of all tables in a text, heads too: every paragraph that has a rule, without the rule."""
    visible = re.sub(r"(?s)<!--.*?(-->|\Z)", "", text)
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", visible):
        block = [line.strip() for line in paragraph.splitlines() if line.strip()]
        if any(map(_RULE.fullmatch, block)):
            lines += [line for line in block if not _RULE.fullmatch(line)]
    return lines + html.printed_lines(text)


def _row(row: Row, table: Table) -> str:
    return f"| {' | '.join([markdown(row.name), *map(_number, shown_cells(row, table))])} |"


def _number(number: Shown) -> str:
    value, *rest = number.plain().split(" ", 1)
    return " ".join([f"**{value}**" if number.best else value, *rest]) + (NEAR if number.near else "")
