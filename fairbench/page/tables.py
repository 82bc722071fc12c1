"""Tables on the page: numbers as `fairbench table --format html` writes them, and every class as a colour.

Each comes with what the script needs: unrounded values to sort by, and the runs behind each number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairbench.page.collect import Sheet
from fairbench.page.markup import Anchors, Markup, joined, tag
from fairbench.tables.escapes import plain
from fairbench.tables.formats import html
from fairbench.tables.formats.numbers import full_caption, shown
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Column, Row, Table, TableCell

CLASSES_ACROSS = 20  # with more, the classes stand below each other
LEVELS = 20


@dataclass
class Data:
    """What the script gets: one item for each table of the page, in order."""

    anchors: Anchors
    sheets: list[dict[str, Any]] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)  # a sheet that stands under each attack is kept once
    captions: int = 0

    def number(self, sheet: Sheet, make: Callable[[], dict[str, Any]]) -> int:
        """Which item a sheet is; `make` makes it when it is new."""
        if id(sheet) not in self.known:
            self.known[id(sheet)] = len(self.sheets)
            self.sheets.append(make())
        return self.known[id(sheet)]

    def caption(self) -> str:
        """A place for the next caption."""
        self.captions += 1
        return f"caption-{self.captions}"

    def uses(self, sheet: Sheet, label: str) -> list[list[Any]]:
        """The runs of a row as (seed, place on the page, checkpoints)."""
        return [
            [use.seed, self.anchors.of("run", use.run), epoch_range(use.epochs)]
            for use in sheet.uses.get(label, ())
        ]


def numbers(sheet: Sheet, data: Data) -> Markup:
    """A table of numbers with its caption, its notes and its stamp."""
    table = sheet.table
    words = full_caption(table)
    parts: list[object] = []
    number = data.number(
        sheet,
        lambda: {
            "cols": [_column(column) for column in table.columns],
            "rows": [_row(row, sheet, data) for row in table.rows],
            "base": data.uses(sheet, sheet.base),
        },
    )
    place = data.caption()
    if table.rows:
        # html.rows: so `fairbench verify` finds on the page what it finds in a table.
        groups = joined(tag("th", group, colspan=n, scope="colgroup") for group, n in table.groups)
        heads = joined(tag("th", column.header, scope="col") for column in table.columns)
        top = tag("tr", tag("td"), groups) + tag("tr", tag("th", table.head, scope="col"), heads)
        body = Markup("\n" + "\n".join(html.rows(table)) + "\n")
        parts.append(
            _scroll(table.title, tag("thead", Markup(top)), tag("tbody", body), number, "numbers", place)
        )
    parts.append(tag("p", words, class_="caption", id=place))
    if table.notes:
        parts.append(tag("ul", *(tag("li", note) for note in table.notes), class_="notes"))
    if table.evidence:
        parts.append(Markup("\n".join(["", "<!--", *stamp(table), "-->", ""])))
    return joined(parts)


def _scroll(title: str, head: Markup, body: Markup, number: int, kind: str, place: str) -> Markup:
    """A table that scrolls in a box of its own where the screen is narrower."""
    caption = tag("caption", title, class_="unseen")
    table = tag("table", caption, head, body, class_=kind, data_sheet=number, aria_describedby=place)
    box = "scroll tall" if kind.endswith("down") else "scroll"
    return tag("div", table, class_=box, role="region", tabindex="0", aria_label=title)


def _column(column: Column) -> dict[str, Any]:
    return {"n": plain(f"{column.group}, {column.header}"), "better": column.better or ""}


def _row(row: Row, sheet: Sheet, data: Data) -> dict[str, Any]:
    seeds = [use.seed for use in sheet.uses.get(row.label, ())]
    cells = [
        _cell(cell, c, sheet.table, seeds) for cell, c in zip(row.cells, sheet.table.columns, strict=True)
    ]
    found: dict[str, Any] = {"n": plain(row.name), "c": cells}
    if row.source:
        return {**found, "source": plain(row.source)}
    return {
        **found,
        "u": data.uses(sheet, row.label),
        "m": data.anchors.of("method", row.method),
        "q": plain(f"{row.label} {row.title} {row.method}").lower(),
    }


def _cell(cell: TableCell, column: Column, table: Table, seeds: Sequence[int]) -> list[Any]:
    """[value to sort by, the number as it is shown, "a b c": that of each of `seeds`]."""
    if not cell.exists:
        return [None, "not defined" if cell.value is not None else ""]
    values = dict(cell.values)
    each = " ".join(shown(TableCell(values.get(seed)), column, table).value for seed in seeds)
    return [cell.value, shown(cell, column, table).plain(), *([each] if values else [])]


def epoch_range(epochs: Sequence[int]) -> str:
    """The epochs as "10-12", or "4, 8"."""
    if len(epochs) > 2 and epochs[-1] - epochs[0] == len(epochs) - 1:
        return f"{epochs[0]}-{epochs[-1]}"
    return ", ".join(map(str, epochs))


@dataclass(frozen=True)
class Grid:
    """The accuracy of every class: `cells[k][c]` of entry k and column c, the average first."""

    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    titles: tuple[str, ...]
    cells: tuple[tuple[TableCell, ...], ...]


def grid(table: Table) -> Grid:
    """A table of the view "classes" with the entries in the rows, however the table stands."""
    if table.head == "method":
        labels = tuple(row.label for row in table.rows)
        titles = tuple(row.name for row in table.rows)
        return Grid(table.columns, labels, titles, tuple(row.cells for row in table.rows))
    side = table.columns[0].group
    columns = tuple(Column(f"{side}_{k}", row.label, side) for k, row in enumerate(table.rows))
    labels = tuple(column.key.removeprefix(f"{side}_") for column in table.columns)
    titles = tuple(column.header for column in table.columns)
    cells = tuple(zip(*(row.cells for row in table.rows), strict=True))
    return Grid(columns, labels, titles, cells)


def heat_map(sheet: Sheet, data: Data) -> Markup:
    """The accuracy of every class, a number in each cell and its height as a colour."""
    table, found = sheet.table, grid(sheet.table)
    low, high = _ends([cell.value for line in found.cells for cell in line if cell.value is not None])
    drawn = [
        [
            _td(cell, c, table, (low, high), k == 0)
            for k, (cell, c) in enumerate(zip(line, found.columns, strict=True))
        ]
        for line in found.cells
    ]
    headers = [column.header for column in found.columns]
    across = len(headers) - 1 <= CLASSES_ACROSS
    number, place = data.number(sheet, lambda: _heat_data(sheet, found, data, across)), data.caption()
    if across:
        head, side_heads, lines = "method", headers, list(zip(found.titles, drawn, strict=True))
    else:
        turned = [[line[c] for line in drawn] for c in range(len(headers))]
        head, side_heads, lines = "class", list(found.titles), list(zip(headers, turned, strict=True))
    top = tag("tr", tag("th", head, scope="col"), *(tag("th", name, scope="col") for name in side_heads))
    body = joined(tag("tr", tag("th", name, class_="row", scope="row"), *cells) for name, cells in lines)
    kind = "heat across" if across else "heat down"
    side = table.columns[0].group
    scale = tag(
        "p",
        f"{100 * low:.0f} %",
        tag(
            "span",
            *(tag("i", class_=f"h{k}") for k in range(0, LEVELS + 1, 2)),
            class_="scale",
            aria_hidden="true",
        ),
        f"{100 * high:.0f} %",
        class_="legend",
    )
    best = (
        " Underlined: the best mean of each class."
        if any(cell.best for line in found.cells for cell in line)
        else ""
    )
    words = tag(
        "details",
        tag("summary", "What was measured"),
        tag("p", table.caption + best, class_="caption", id=place),
        class_="caption",
    )
    return tag(
        "div",
        tag("div", tag("h4", side), scale, class_="heading"),
        _scroll(table.title, tag("thead", top), tag("tbody", body), number, kind, place),
        words,
        class_="map",
    )


def _heat_data(sheet: Sheet, found: Grid, data: Data, across: bool) -> dict[str, Any]:
    """What the script gets of a heat map, as it stands: methods in the rows (`across`), or classes."""
    entries = [
        {"n": plain(title), "u": data.uses(sheet, label), "q": plain(f"{label} {title}").lower()}
        for label, title in zip(found.labels, found.titles, strict=True)
    ]
    sides = [{"n": plain(f"{column.group}, {column.header}"), "better": "low"} for column in found.columns]
    texts = [
        [_heat(cell, c, sheet.table, [use.seed for use in sheet.uses.get(label, ())])
         for cell, c in zip(line, found.columns, strict=True)]
        for label, line in zip(found.labels, found.cells, strict=True)
    ]  # fmt: skip
    if across:
        return {
            "cols": sides,
            "rows": [{**e, "c": cells} for e, cells in zip(entries, texts, strict=True)],
            "base": [],
        }
    rows = [{**side, "c": [line[c] for line in texts]} for c, side in enumerate(sides)]
    return {"cols": [{**entry, "better": "low"} for entry in entries], "rows": rows, "base": []}


def _heat(cell: TableCell, column: Column, table: Table, seeds: Sequence[int]) -> list[Any]:
    """As `_cell`; thousands of cells need no value to more digits than anybody sorts by."""
    value, *rest = _cell(cell, column, table, seeds)
    return [None if value is None else round(value, 6), *rest]


def _td(cell: TableCell, column: Column, table: Table, ends: tuple[float, float], average: bool) -> Markup:
    number = shown(cell, column, table)
    value = tag("u", number.value) if number.best else number.value
    level = None
    if cell.exists and cell.value is not None and not average:
        share = (cell.value - ends[0]) / (ends[1] - ends[0])
        level = f"h{round(LEVELS * min(max(share, 0.0), 1.0))}"
    return tag("td", value, class_="average" if average else level)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The tens of percent around the values."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low = math.floor(10 * min(known) + 1e-9) / 10
    high = math.ceil(10 * max(known) - 1e-9) / 10
    return (low, high) if high > low else (max(low - 0.1, 0.0), max(low - 0.1, 0.0) + 0.1)
