"""The heat map of class accuracies: a number in each cell, and its height as one of LEVELS + 1 blues.

Dark is low in light mode, pale is low in dark mode; either can be read in grey. page.css has the colours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairbench.page.content import TracedTable
from fairbench.page.markup import Markup, joined, tag
from fairbench.page.tables import PageData, cell_data, scroll_box
from fairbench.tables.escapes import plain
from fairbench.tables.formats.numbers import shown
from fairbench.tables.table import Column, Table, TableCell

CLASSES_ACROSS = 20  # with more classes, each has a row instead of a column
LEVELS = 20


@dataclass(frozen=True)
class ClassGrid:
    """The accuracy of every class: `cells[k][c]` of entry k and column c; column 0 is the average."""

    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    titles: tuple[str, ...]
    cells: tuple[tuple[TableCell, ...], ...]


def class_grid(table: Table) -> ClassGrid:
    """A table of the view "classes" with the entries in the rows, whichever way the table has them."""
    if table.head == "method":
        labels = tuple(row.label for row in table.rows)
        titles = tuple(row.name for row in table.rows)
        return ClassGrid(table.columns, labels, titles, tuple(row.cells for row in table.rows))
    side = table.columns[0].group
    columns = tuple(Column(f"{side}_{k}", row.label, side) for k, row in enumerate(table.rows))
    labels = tuple(column.key.removeprefix(f"{side}_") for column in table.columns)
    titles = tuple(column.header for column in table.columns)
    cells = tuple(zip(*(row.cells for row in table.rows), strict=True))
    return ClassGrid(columns, labels, titles, cells)


def heat_map(traced: TracedTable, data: PageData) -> Markup:
    """The heat map of a table of the view "classes", with its scale and its caption."""
    table, grid = traced.table, class_grid(traced.table)
    values = [cell.value for line in grid.cells for cell in line if cell.value is not None]
    low, high = _range(values)
    caption_id = data.caption_id()
    number = data.number(traced, lambda: _heat_data(traced, grid, data))
    head, body = _table_parts(table, grid, (low, high))
    levels = (tag("i", class_=f"h{k}") for k in range(0, LEVELS + 1, 2))
    scale = tag("span", *levels, class_="scale", aria_hidden="true")
    best = any(cell.best for line in grid.cells for cell in line)
    caption = " ".join(table.description) + (" Underlined: the best mean of each class." if best else "")
    return tag(
        "div",
        tag(
            "div",
            tag("h4", table.columns[0].group),
            tag("p", f"{100 * low:.0f} %", scale, f"{100 * high:.0f} %", class_="legend"),
            class_="heading",
        ),
        scroll_box(
            table.title, head, body, number, f"heat {'across' if _across(grid) else 'down'}", caption_id
        ),
        tag(
            "details",
            tag("summary", "How these numbers were measured"),
            tag("p", caption, class_="caption", id=caption_id),
            class_="caption",
        ),
        class_="map",
    )


def _across(grid: ClassGrid) -> bool:
    """Whether the classes are columns."""
    return len(grid.columns) - 1 <= CLASSES_ACROSS


def _table_parts(table: Table, grid: ClassGrid, limits: tuple[float, float]) -> tuple[Markup, Markup]:
    """The head and the body of the HTML table."""
    cells = [
        [
            _cell(cell, c, table, limits, k == 0)
            for k, (cell, c) in enumerate(zip(line, grid.columns, strict=True))
        ]
        for line in grid.cells
    ]
    corner, names, titles = "method", [column.header for column in grid.columns], list(grid.titles)
    if not _across(grid):
        corner, names, titles = "class", titles, names
        cells = [list(column) for column in zip(*cells, strict=True)]
    head = tag("tr", tag("th", corner, scope="col"), *(tag("th", name, scope="col") for name in names))
    body = joined(
        tag("tr", tag("th", title, class_="row", scope="row"), *line)
        for title, line in zip(titles, cells, strict=True)
    )
    return tag("thead", head), tag("tbody", body)


def _cell(
    cell: TableCell, column: Column, table: Table, limits: tuple[float, float], average: bool
) -> Markup:
    number = shown(cell, column, table)
    value = tag("u", number.value) if number.best else number.value
    level = None
    if cell.exists and cell.value is not None and not average:
        share = (cell.value - limits[0]) / (limits[1] - limits[0])
        level = f"h{round(LEVELS * min(max(share, 0.0), 1.0))}"
    return tag("td", value, class_="average" if average else level)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The multiples of 0.1 around the values."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low = math.floor(10 * min(known) + 1e-9) / 10
    high = math.ceil(10 * max(known) - 1e-9) / 10
    return (low, high) if high > low else (max(low - 0.1, 0.0), max(low - 0.1, 0.0) + 0.1)


def _heat_data(traced: TracedTable, grid: ClassGrid, data: PageData) -> dict[str, Any]:
    """The data of the script, as the table is: methods in the rows, or classes."""
    entries: list[dict[str, Any]] = [
        {"n": plain(title), "u": data.uses(traced, label), "q": plain(f"{label} {title}").lower()}
        for label, title in zip(grid.labels, grid.titles, strict=True)
    ]
    classes: list[dict[str, Any]] = [
        {"n": plain(f"{column.group}, {column.header}")} for column in grid.columns
    ]
    cells = [
        [_rounded(cell_data(cell, c, traced, label)) for cell, c in zip(line, grid.columns, strict=True)]
        for label, line in zip(grid.labels, grid.cells, strict=True)
    ]
    columns, rows = classes, entries
    if not _across(grid):
        columns, rows = entries, classes
        cells = [list(column) for column in zip(*cells, strict=True)]
    return {
        "cols": [{**column, "better": "low"} for column in columns],
        "rows": [{**row, "c": line} for row, line in zip(rows, cells, strict=True)],
        "base": [],
    }


def _rounded(cell: list[Any]) -> list[Any]:
    """The cell with its value to six digits: maps have thousands of cells, and values are only sorted by."""
    value, *rest = cell
    return [None if value is None else round(value, 6), *rest]
