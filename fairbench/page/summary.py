"""The answer at a glance: whose worst class stands highest, and how far each method's is from its average."""

from collections.abc import Sequence

from fairbench.page.collect import Section
from fairbench.page.markup import Anchors, Markup, joined, tag
from fairbench.page.tables import grid
from fairbench.tables.entries import tail_fraction
from fairbench.tables.formats.numbers import shown
from fairbench.tables.table import Row, Table

MAX_NAMES = 4


def verdict(section: Section, anchors: Anchors, *, short: bool = False) -> Markup:
    """A sentence on the worst class: whose is highest, and who cannot be told from it."""
    table, side = section.board.table, section.side
    rows = _ours(table)
    if not rows:
        return joined(["No run is done yet."])
    first = max(rows, key=lambda row: _value(table, row, f"{side}_worst"))
    who = _link(first, anchors)
    worst, average, floor = (_text(table, first, f"{side}_{name}") for name in ("worst", "average", "floor"))
    if len(rows) == 1:
        parts: list[object] = ["Only ", who, f" was run: its {_what(section)} has "]
    else:
        parts = [who, f" has the highest {side} {_what(section)}: "]
    parts += [worst, ", at an average of ", average, "."]
    if not short:
        parts += [" If all its classes were equally good, about ", floor, " would be observed."]
    near = [_link(row, anchors) for row in rows if row is not first and _near(table, row, f"{side}_worst")]
    if len(rows) > 1 and table.cell(first, f"{side}_worst").half_width is None:
        parts.append(" One seed says nothing of the spread over seeds.")
    elif near:
        others = len(near) - MAX_NAMES
        more = f" and {others} other{'' if others == 1 else 's'}" if others > 0 else None
        parts += [" These seeds do not tell it apart from ", joined(near[:MAX_NAMES], ", "), more, "."]
    return joined(parts)


def _what(section: Section) -> str:
    """What the table calls "worst": a class, or with very many classes the mean over the lowest of them."""
    share = tail_fraction(len(grid(section.classes[0].table).columns) - 1) if section.classes else None
    return "worst class" if share is None else f"mean over the worst {100 * share:.0f} % of classes"


def picture(section: Section, anchors: Anchors) -> Markup:
    """A line for each method from its worst class to its average, highest worst class first."""
    table, side = section.board.table, section.side
    rows = sorted(_ours(table), key=lambda row: -_value(table, row, f"{side}_worst"))
    items = [_item(table, row, side, anchors) for row in rows]
    if not items:
        return Markup()
    marks = tag(
        "p",
        tag("span", class_="mark worst"), f" {_what(section)}, with its 95 % interval over seeds",
        tag("span", class_="mark average"), " average",
        tag("span", class_="mark floor"), " floor: the worst that equal classes would show",
        class_="legend",
    )  # fmt: skip
    return joined([tag("ul", *items, class_="lines", aria_label=f"{side} accuracy, 0 to 100 %"), marks])


def _item(table: Table, row: Row, side: str, anchors: Anchors) -> Markup:
    worst, average, floor = (table.cell(row, f"{side}_{name}") for name in ("worst", "average", "floor"))
    marks: list[object] = [tag("line", x1="0%", x2="100%", y1=12, y2=12, class_="track")]
    if average.exists and worst.exists:
        marks.append(tag("line", x1=_at(worst.value), x2=_at(average.value), y1=12, y2=12, class_="gap"))
    if floor.exists:
        marks.append(tag("line", x1=_at(floor.value), x2=_at(floor.value), y1=4, y2=20, class_="floor"))
    if worst.exists and worst.value is not None and worst.half_width is not None:
        low, high = (_at(worst.value + sign * worst.half_width) for sign in (-1, 1))
        marks.append(tag("line", x1=low, x2=high, y1=12, y2=12, class_="error"))
    if average.exists:
        marks.append(tag("circle", cx=_at(average.value), cy=12, r=4.5, class_="average"))
    if worst.exists:
        marks.append(tag("circle", cx=_at(worst.value), cy=12, r=5, class_="worst"))
    told = [
        tag("span", f"{name} ", _text(table, row, f"{side}_{name}"))
        for name in ("worst", "average", "rho")
        if table.cell(row, f"{side}_{name}").exists
    ]
    return tag(
        "li",
        tag("span", _link(row, anchors), class_="who"),
        tag("svg", *marks, class_="line", height=24, aria_hidden="true"),
        tag("span", *told, class_="told"),
    )


def _at(value: float | None) -> str:
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}%"


def _ours(table: Table) -> Sequence[Row]:
    return [row for row in table.rows if not row.source]


def _value(table: Table, row: Row, key: str) -> float:
    cell = table.cell(row, key)
    return cell.value if cell.exists and cell.value is not None else -1.0


def _near(table: Table, row: Row, key: str) -> bool:
    cell = table.cell(row, key)
    return cell.near or cell.best


def _text(table: Table, row: Row, key: str) -> Markup:
    column = next(column for column in table.columns if column.key == key)
    return tag("b", shown(table.cell(row, key), column, table).plain())


def _link(row: Row, anchors: Anchors) -> Markup:
    return tag("a", row.name, href=f"#{anchors.of('method', row.method)}")
