"""Tables on the page: numbers as `fairbench table --format html` writes them.

Each comes with the data of the script: unrounded values to sort by, and the runs behind each number.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fairbench.page.content import TracedTable
from fairbench.page.markup import Anchors, Markup, joined, number_range, tag
from fairbench.tables.escapes import plain
from fairbench.tables.formats import html
from fairbench.tables.formats.captions import Marks, words_of
from fairbench.tables.formats.numbers import shown
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Column, Row, TableCell


@dataclass
class PageData:
    """The data of the script: one item for each table of the page, in order; and the ids of captions."""

    anchors: Anchors
    tables: list[dict[str, Any]] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)  # a table in several sections is kept once
    _captions: int = 0

    def number(self, traced: TracedTable, make: Callable[[], dict[str, Any]]) -> int:
        """The position of a table's item; `make` makes the item of a new table."""
        if id(traced) not in self._numbers:
            self._numbers[id(traced)] = len(self.tables)
            self.tables.append(make())
        return self._numbers[id(traced)]

    def caption_id(self) -> str:
        """The id of the next caption."""
        self._captions += 1
        return f"caption-{self._captions}"

    def uses(self, traced: TracedTable, label: str) -> list[list[Any]]:
        """The runs behind a row as [seed, id of the run's details, checkpoints]."""
        return [
            [number, self.anchors.of("run", seed.record.folder.name), epoch_range(seed.epochs)]
            for number, seed in traced.seeds.get(label, {}).items()
        ]


def epoch_range(epochs: tuple[int, ...]) -> str:
    """The epochs as "10-12", or "4, 8"."""
    return number_range(epochs, "-", ", ")


def number_table(traced: TracedTable, data: PageData) -> Markup:
    """A table of numbers with its caption, its notes and its stamp."""
    table = traced.table
    caption, notes = words_of(table, Marks(), full=False)
    caption_id = data.caption_id()
    number = data.number(traced, lambda: _table_data(traced, data))
    parts: list[object] = []
    if table.rows:
        # The lines of `fairbench table --format html`, which `fairbench verify` compares.
        head = tag("thead", Markup("".join(html.heads(table))))
        body = tag("tbody", Markup("\n" + "\n".join(html.rows(table)) + "\n"))
        parts.append(scroll_box(table.title, head, body, number, "numbers", caption_id))
    parts.append(tag("p", caption, class_="caption", id=caption_id))
    if notes:
        parts.append(tag("ul", *(tag("li", note) for note in notes), class_="notes"))
    if table.evidence:
        parts.append(Markup("\n".join(["", "<!--", *stamp(table), "-->", ""])))
    return joined(parts)


def scroll_box(title: str, head: Markup, body: Markup, number: int, kind: str, caption_id: str) -> Markup:
    """A table that scrolls in its own box where the screen is narrower. number: of its data."""
    caption = tag("caption", title, class_="unseen")
    table = tag("table", caption, head, body, class_=kind, data_table=number, aria_describedby=caption_id)
    box = "scroll tall" if kind.endswith("down") else "scroll"
    return tag("div", table, class_=box, role="region", tabindex="0", aria_label=title)


def _table_data(traced: TracedTable, data: PageData) -> dict[str, Any]:
    return {
        "cols": [
            {"n": plain(f"{column.group}, {column.header}"), "better": column.better or ""}
            for column in traced.table.columns
        ],
        "rows": [_row_data(row, traced, data) for row in traced.table.rows],
        "base": data.uses(traced, traced.base),
    }


def _row_data(row: Row, traced: TracedTable, data: PageData) -> dict[str, Any]:
    pairs = zip(row.cells, traced.table.columns, strict=True)
    item: dict[str, Any] = {
        "n": plain(row.name),
        "c": [cell_data(cell, column, traced, row.label) for cell, column in pairs],
    }
    if row.source:
        return {**item, "source": plain(row.source)}
    return {
        **item,
        "u": data.uses(traced, row.label),
        "m": data.anchors.of("method", row.method),
        "q": plain(f"{row.label} {row.title} {row.method}").lower(),
    }


def cell_data(cell: TableCell, column: Column, traced: TracedTable, label: str) -> list[Any]:
    """[value to sort by, number as shown], and the values of the seeds of row `label` as "a b c" if any."""
    if not cell.exists:
        return [None, "not defined" if cell.value is not None else ""]
    item = [cell.value, shown(cell, column, traced.table).plain()]
    if cell.values:
        values = dict(cell.values)
        seeds = [TableCell(values.get(number)) for number in traced.seeds.get(label, ())]
        item.append(" ".join(shown(seed, column, traced.table).value for seed in seeds))
    return item
