"""Tables for a terminal: aligned, no line longer than the terminal, and coloured where it has colours."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Literal

from fairbench.tables.captions import WIDTH
from fairbench.tables.escapes import plain
from fairbench.tables.formats.blocks import column_blocks
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import NEAR, Shown, shown_cells
from fairbench.tables.provenance import made_from
from fairbench.tables.table import Row, Table

Paint = Callable[[str, str], str]
"""Returns a text in a style such as "bold green"; the text itself where there are no colours."""
Legend = Literal["sentences", "pointer"]
MARKS = Marks(best="*")
POINTER = "What columns and marks mean: fairbench table --caption full, docs/tables.md"
_PROSE_WIDTH = 100  # longer lines are hard to read
_NUMBER_WIDTH = 40  # for numbers at least; longer names have several lines


def document(
    tables: Sequence[Table],
    *,
    full_captions: bool = False,
    width: int = WIDTH,
    paint: Paint = lambda text, style: text,
    explained: Legend = "sentences",
) -> str:
    """The tables below each other in lines of `width` characters, and the legend or where to find it."""
    parts = [
        "\n".join(_table(table, words_of(table, MARKS, full=full_captions), width, paint)) for table in tables
    ]
    if not full_captions:
        sentences = " ".join(legend(tables, MARKS))
        closing = f"Legend: {sentences}" if explained == "sentences" else POINTER
        parts += [paint("\n".join(_wrapped(closing, width)), "dim")] if sentences else []
    return "\n\n".join(parts) + "\n"


def _table(table: Table, words: Words, width: int, paint: Paint) -> list[str]:
    lines = [paint(line, "bold") for line in _wrapped(table.title, width)]
    lines.append("")
    for block in column_blocks(table, lambda part: _width(part, width) <= width) if table.rows else ():
        lines += [*_block(block, width, paint), ""]
    lines += _wrapped(words.caption, width)
    for note in words.notes:
        lines += [paint(line, "yellow") for line in _wrapped(f"note: {note}", width, indent="      ")]
    if table.evidence:
        lines += [paint(line, "dim") for line in _wrapped(_made_from(table), width)]
    return lines


def _made_from(table: Table) -> str:
    count = len(table.evidence)
    return f"Made from {count} record{'s' if count > 1 else ''}, digest {made_from(table.evidence)}."


def _block(block: Table, width: int, paint: Paint) -> list[str]:
    """Columns beside each other; the heading of a single group stands in the place of "method"."""
    widths, names = _widths(block, width), _names_width(block, width)
    several = len(block.groups) > 1
    first = block.head if several else plain(block.groups[0][0])
    heads = [f"{plain(column.header)} ".rjust(w) for column, w in zip(block.columns, widths, strict=True)]
    lines = [_groups(block, names, widths)] if several else []
    lines.append("  ".join([first.ljust(names), *heads]).rstrip())
    lines.append("  ".join("-" * w for w in (names, *widths)))
    for row in block.rows:
        label, *more = _label(row, names)
        cells = [
            _painted(number, w, paint) for number, w in zip(shown_cells(row, block), widths, strict=True)
        ]
        lines.append("  ".join([label.ljust(names), *cells]).rstrip())
        lines += [f"  {line}" for line in more]
    return lines


def _label(row: Row, names: int) -> list[str]:
    """The label in lines of at most `names` characters; the indentation of published rows stays."""
    label = plain(row.label)
    indent = " " * (len(label) - len(label.lstrip()))
    first, *more = textwrap.wrap(label.strip(), names - len(indent), break_on_hyphens=False) or [""]
    return [indent + first, *more]


def _names_width(block: Table, width: int) -> int:
    longest = max(len(plain(row.label)) for row in block.rows)
    return max(
        len(block.head), *(len(group) for group, _ in block.groups), min(longest, width - _NUMBER_WIDTH)
    )


def _widths(block: Table, width: int) -> list[int]:
    """The width of each column; every number has room for a mark, so that the digits are aligned."""
    rows = [shown_cells(row, block) for row in block.rows]
    return [
        max(len(plain(column.header)) + 1, *(len(_text(row[k])) for row in rows))
        for k, column in enumerate(block.columns)
    ]


def _width(block: Table, width: int) -> int:
    """The length of a line of the block, without the room for a mark at its end."""
    return _names_width(block, width) + sum(w + 2 for w in _widths(block, width))


def _text(number: Shown) -> str:
    return number.plain() + ("*" if number.best else NEAR if number.near else " ")


def _painted(number: Shown, width: int, paint: Paint) -> str:
    text = _text(number).rjust(width)
    return paint(text, "bold green") if number.best else paint(text, "green") if number.near else text


def _groups(table: Table, names: int, widths: Sequence[int]) -> str:
    line, k = " " * names, 0
    for group, count in table.groups:
        line += "  " + f"{group} ".rjust(sum(widths[k : k + count]) + 2 * (count - 1))
        k += count
    return line.rstrip()


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    width = min(width, _PROSE_WIDTH)
    return textwrap.wrap(plain(text), width, subsequent_indent=indent, break_on_hyphens=False)
