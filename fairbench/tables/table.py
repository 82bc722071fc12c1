"""The one model of a table: columns, rows and cells, with the words and the evidence that belong to them.

Views build it (`views.py`), formats print it (`formats/`), `published_tables.py` fills it from papers. Texts
are unescaped.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["percent", "limits", "points", "rho", "fraction", "p", "count"]
Better = Literal["high", "low"]
ErrorKind = Literal["t95", "sd"]


@dataclass(frozen=True)
class Column:
    """What the cells below each other are. `key` is unique in a table; `group` is the heading above `header`.

    unit: percent (of a share in [0, 1]), limits (in percent, without the value), points (a difference
    of shares), rho (a signed fraction), fraction, p (a p value), count. better: which end is marked as
    best; None where there is no better. digits: decimals in print.
    """

    key: str
    header: str
    group: str
    unit: Unit = "percent"
    better: Better | None = "high"
    digits: int = 2


@dataclass(frozen=True)
class TableCell:
    """One number of a table: accuracies in [0, 1], rho a fraction.

    value: None when it does not exist, NaN when it is undefined. half_width (of the 95 % t interval) and
    sd are over seeds, None for a single seed and for the baseline's own rho. low, high: limits that are not
    symmetric. values: (seed, value) of each seed. best: the best mean of its column; near: cannot be told
    from it. verdict, of a published number: where it lies to our interval.
    """

    value: float | None = None
    half_width: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[tuple[int, float], ...] = ()
    best: bool = False
    near: bool = False
    verdict: str = ""

    @property
    def exists(self) -> bool:
        return self.value is not None and not math.isnan(self.value)


@dataclass(frozen=True)
class RunDigest:
    """A run that a table was made from: its folder, its id, and the digest of the outcomes used."""

    folder: str
    id: str
    digest: str


@dataclass(frozen=True)
class Row:
    """One entry of ours, or a published one (`source` says where): a cell for each column of the table.

    `label` is what a user types, `title` what a paper prints.
    """

    method: str
    label: str
    cells: tuple[TableCell, ...]
    title: str = ""
    seeds: tuple[int, ...] = ()
    worst_class_clean: str = ""
    worst_class_robust: str = ""
    warnings: tuple[str, ...] = ()
    evidence: tuple[RunDigest, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows with the caption and the notes that make them readable alone.

    request: the options of `build_tables` that make it again from the records in its evidence, and the
    `settings_digest` of its attack; empty for published tables.
    """

    dataset: str
    model: str
    protocol: str
    protocol_version: str
    attack: str
    view: str
    title: str
    caption: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    error: ErrorKind
    convention: str
    head: str = "method"
    published_as: str = ""  # what papers call its attack, if they use it
    evidence: tuple[RunDigest, ...] = ()
    request: tuple[tuple[str, Any], ...] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns with the number of columns under each."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found

    def cell(self, row: Row, key: str) -> TableCell:
        """The cell of `row` in the column called `key`; one that does not exist when the table lacks it."""
        for column, cell in zip(self.columns, row.cells, strict=True):
            if column.key == key:
                return cell
        return TableCell()
