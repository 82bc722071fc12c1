"""Numbers in print, the same in every format."""

from dataclasses import dataclass

from fairbench.tables.table import PLUS_MINUS, Column, Row, Table, TableCell

NEAR = "\N{DAGGER}"
VERDICTS = {"inside": "in", "below": "low", "above": "high"}
_PERCENT = ("percent", "limits", "points")


@dataclass(frozen=True)
class Shown:
    """A cell in print: value, error or limits, and marks. The value is "-" when there is no number."""

    value: str
    error: str = ""  # without the sign
    limits: str = ""  # "[28.10, 33.00]"
    best: bool = False
    near: bool = False
    verdict: str = ""

    def plain(self) -> str:
        """ "82.68 ± 0.23" without marks."""
        parts = [self.value, f"{PLUS_MINUS} {self.error}" if self.error else "", self.limits, self.verdict]
        return " ".join(part for part in parts if part)


def shown_cells(row: Row, table: Table) -> list[Shown]:
    """The cells of a row in print, in the order of the columns."""
    return [shown(cell, column, table) for cell, column in zip(row.cells, table.columns, strict=True)]


def shown(cell: TableCell, column: Column, table: Table) -> Shown:
    """The cell in percent (or points, rho with its sign, p values), with the error that the table shows."""
    if not cell.exists:
        return Shown("-")
    assert cell.value is not None
    published = cell.half_width is None  # a published value has the printed deviation, or none
    error = cell.sd if published or table.error == "sd" else cell.half_width
    scale, digits = (100.0 if column.unit in _PERCENT else 1.0), column.digits
    limits = spread = ""
    if cell.low is not None and cell.high is not None:
        limits = f"[{scale * cell.low:.{digits}f}, {scale * cell.high:.{digits}f}]"
    elif table.error == "t95" and table.rules >= 2 and (cut := _cut(cell, column)):
        limits = cut
    elif error is not None:
        fewer = scale * error >= 10 and digits > 1  # the second decimal of +- 17 has no meaning
        spread = f"{scale * error:.{digits - fewer}f}"
    value = _value(scale * cell.value, column)
    if column.unit == "limits":
        value, limits = limits, ""
    return Shown(value, spread, limits, cell.best, cell.near, VERDICTS.get(cell.verdict, ""))


def _cut(cell: TableCell, column: Column) -> str:
    """The interval of an accuracy as limits where it would leave [0, 100]; "" elsewhere."""
    if column.unit != "percent" or cell.half_width is None or cell.value is None:
        return ""
    low, high = (100 * (cell.value + sign * cell.half_width) for sign in (-1, 1))
    if low >= 0 and high <= 100:
        return ""
    digits = 0 if high - low >= 20 else 1
    return f"[{_short(max(0.0, low), digits)}, {_short(min(100.0, high), digits)}]"


def _short(limit: float, digits: int) -> str:
    return f"{limit:.{digits}f}" if 0 < limit < 100 else f"{limit:.0f}"


def _value(value: float, column: Column) -> str:
    if column.unit == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column.unit in ("rho", "points"):
        text = f"{value:+.{column.digits}f}"
        return f"{0:.{column.digits}f}" if float(text) == 0 else text
    return f"{value:.{column.digits}f}"
