"""The summary of a section: which method has the highest worst class, and each method's worst and average."""

from fairbench.page.content import Section
from fairbench.page.markup import Anchors, Markup, joined, tag
from fairbench.tables.entries import tail_fraction
from fairbench.tables.formats.numbers import shown
from fairbench.tables.table import Row, Table

MAX_NAMES = 4


def verdict(section: Section, anchors: Anchors, *, short: bool = False) -> Markup:
    """Sentences on the worst class: the method with the highest one, and those not significantly lower."""
    table, side = section.leaderboard.table, section.side
    rows = _own_rows(table)
    if not rows:
        return joined(["No run is done yet."])
    key = f"{side}_worst"
    best = max(rows, key=lambda row: _value(table, row, key))
    first = [row for row in rows if table.cell(row, key).best] or [best]
    names = joined([_link(row, anchors) for row in first], " and ")
    worst, average, floor = (_text(table, best, f"{side}_{name}") for name in ("worst", "average", "floor"))
    what = f"{side} {_worst_name(section)}"
    if len(rows) == 1:
        parts: list[object] = ["Only ", names, f" was run: its {_worst_name(section)} has "]
    elif not table.cell(best, key).best:
        lowest = min(rows, key=lambda row: _value(table, row, key))
        parts = ["No method is called best: one seed does not show the spread over seeds. "]
        parts += [
            f"The {what} is between ",
            _text(table, lowest, key),
            " (",
            _link(lowest, anchors),
            ") and ",
        ]
        return joined([*parts, worst, " (", names, ")."])
    elif len(first) > 1:
        parts = [names, f" tie for the highest {what}: "]
    else:
        parts = [names, f" has the highest {what}: "]
    parts += [worst, " (average ", average, ")."]
    if not short:
        equal = " If all classes were equally accurate, the worst would still be about "
        parts += [equal, floor, " by chance."]
    near = [_link(row, anchors) for row in rows if table.cell(row, key).near]
    if near:
        others = len(near) - MAX_NAMES
        more = f" and {others} other{'' if others == 1 else 's'}" if others > 0 else None
        listed = joined(near[:MAX_NAMES], ", ")
        parts += [" On these seeds, the difference from ", listed, more, " is not significant."]
    return joined(parts)


def _worst_name(section: Section) -> str:
    """What the column "worst" is: a class, or with very many classes the mean over the lowest of them."""
    fraction = tail_fraction(section.num_classes)
    return "worst class" if fraction is None else f"mean over the worst {100 * fraction:.0f} % of classes"


def picture(section: Section, anchors: Anchors) -> Markup:
    """A line for each method from its worst class to its average, highest worst class first."""
    table, side = section.leaderboard.table, section.side
    rows = sorted(_own_rows(table), key=lambda row: -_value(table, row, f"{side}_worst"))
    if not rows:
        return Markup()
    items = [_item(table, row, side, anchors) for row in rows]
    marks = tag(
        "p",
        tag("span", class_="mark worst"), f" {_worst_name(section)}, with its 95 % interval over seeds",
        tag("span", class_="mark average"), " average",
        tag("span", class_="mark floor"), " floor: expected worst if all classes were equally accurate",
        class_="legend",
    )  # fmt: skip
    return joined([tag("ul", *items, class_="lines", aria_label=f"{side} accuracy, 0 to 100 %"), marks])


def _item(table: Table, row: Row, side: str, anchors: Anchors) -> Markup:
    numbers = [
        tag("span", f"{key} ", _text(table, row, f"{side}_{key}"))
        for key in ("worst", "average", "rho")
        if table.cell(row, f"{side}_{key}").exists
    ]
    return tag(
        "li",
        tag("span", _link(row, anchors), class_="name"),
        tag("svg", *_marks(table, row, side), class_="line", height=24, aria_hidden="true"),
        tag("span", *numbers, class_="values"),
    )


def _marks(table: Table, row: Row, side: str) -> list[Markup]:
    worst, average, floor = (table.cell(row, f"{side}_{key}") for key in ("worst", "average", "floor"))
    marks = [tag("line", x1="0%", x2="100%", y1=12, y2=12, class_="track")]
    if average.exists and worst.exists:
        marks.append(tag("line", x1=_x(worst.value), x2=_x(average.value), y1=12, y2=12, class_="gap"))
    if floor.exists:
        marks.append(tag("line", x1=_x(floor.value), x2=_x(floor.value), y1=4, y2=20, class_="floor"))
    if worst.exists and worst.value is not None and worst.half_width is not None:
        low, high = (_x(worst.value + sign * worst.half_width) for sign in (-1, 1))
        marks.append(tag("line", x1=low, x2=high, y1=12, y2=12, class_="error"))
    if average.exists:
        marks.append(tag("circle", cx=_x(average.value), cy=12, r=4.5, class_="average"))
    if worst.exists:
        marks.append(tag("circle", cx=_x(worst.value), cy=12, r=5, class_="worst"))
    return marks


def _x(value: float | None) -> str:
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}%"


def _own_rows(table: Table) -> list[Row]:
    """The rows that are not published results."""
    return [row for row in table.rows if not row.source]


def _value(table: Table, row: Row, key: str) -> float:
    cell = table.cell(row, key)
    return cell.value if cell.exists and cell.value is not None else -1.0


def _text(table: Table, row: Row, key: str) -> Markup:
    column = next(column for column in table.columns if column.key == key)
    return tag("b", shown(table.cell(row, key), column, table).plain())


def _link(row: Row, anchors: Anchors) -> Markup:
    return tag("a", row.name, href=f"#{anchors.of('method', row.method)}")
