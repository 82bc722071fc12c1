"""Tables for a terminal."""

import textwrap
from collections.abc import Sequence

from fairbench.tables.escapes import plain
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import NEAR, shown_cells
from fairbench.tables.provenance import made_from
from fairbench.tables.table import Row, Table

TEXT_WIDTH = 80


MARKS = Marks(best="*")


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """The tables below each other, and the legend."""
    parts = [_table(table, words_of(table, MARKS, full=full_captions)) for table in tables]
    if not full_captions:
        sentences = legend(tables, MARKS)
        parts += ["\n".join(_wrapped(f"Legend: {' '.join(sentences)}"))] if sentences else []
    return "\n\n".join(parts) + "\n"


def _table(table: Table, words: Words) -> str:
    # Every number has room for a mark, so that the digits are aligned.
    body = [[plain(row.label), *_numbers(row, table)] for row in table.rows]
    head = [table.head, *(f"{plain(column.header)} " for column in table.columns)]
    widths = [max(len(line[k]) for line in [head, *body]) for k in range(len(head))]
    lines = [*_wrapped(table.title), ""]
    if body:
        lines += [_groups(table, widths)] if len(table.groups) > 1 else []  # a single one is in the title
        lines += [_aligned(line, widths) for line in (head, ["-" * width for width in widths], *body)]
        lines.append("")
    lines += _wrapped(words.caption)
    for note in words.notes:
        lines += _wrapped(f"note: {note}", indent="      ")
    if table.evidence:
        lines += _wrapped(_made_from(table))
    return "\n".join(lines)


def _made_from(table: Table) -> str:
    count = len(table.evidence)
    return f"Made from {count} record{'s' if count > 1 else ''}, digest {made_from(table.evidence)}."


def _numbers(row: Row, table: Table) -> list[str]:
    return [
        number.plain() + ("*" if number.best else NEAR if number.near else " ")
        for number in shown_cells(row, table)
    ]


def _groups(table: Table, widths: Sequence[int]) -> str:
    line, k = " " * widths[0], 1
    for group, count in table.groups:
        line += "  " + f"{group} ".rjust(sum(widths[k : k + count]) + 2 * (count - 1))
        k += count
    return line.rstrip()


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(plain(text), TEXT_WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *numbers]).rstrip()
