"""Tables for a README or a notebook."""

import re
from collections.abc import Sequence

from fairbench.tables.escapes import markdown
from fairbench.tables.formats import html
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import NEAR, Shown, shown_cells
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Row, Table

_RULE = re.compile(r"(?=.*-)(?=.*\|)[-:|>\s]+")  # below the head of a table


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """The tables below each other, each followed by its stamp as a comment, and the legend."""
    parts = [_table(table, words_of(table, Marks(), full=full_captions)) for table in tables]
    if not full_captions:
        sentences = legend(tables, Marks())
        parts += [f"*Legend.* {markdown(' '.join(sentences))}"] if sentences else []
    return "\n\n".join(parts) + "\n"


def _table(table: Table, words: Words) -> str:
    lines = [f"**{markdown(table.title)}**", ""]
    if table.rows:
        several = len(table.groups) > 1
        names = [f"{c.group} {c.header}" if several else c.header for c in table.columns]
        lines.append(f"| {' | '.join([table.head, *map(markdown, names)])} |")
        lines.append("|---|" + "---:|" * len(table.columns))
        lines += [_row(row, table) for row in table.rows]
        lines.append("")
    lines.append(markdown(words.caption))
    if words.notes:
        lines += ["", *(f"- {markdown(note)}" for note in words.notes)]
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
