"""The one model of a table: columns, rows and cells, with its caption, its notes and the runs behind it.

`views.py` builds it from records, `published_tables.py` from papers; `formats/` print it. Its texts are
unescaped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, NamedTuple

Unit = Literal["percent", "limits", "points", "rho", "fraction", "p", "count"]
Better = Literal["high", "low"]
ErrorKind = Literal["t95", "sd"]
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
RULES = 2
"""Version of the rules that mark and print numbers. Stamps name it, so that `verify` can follow older rules:

1  marks by paired t tests, each with its own variance; also for one seed; an interval may leave [0, 100]
2  marks by moderated variances; none for one seed; an interval ends at 0 and 100
"""


@dataclass(frozen=True)
class Column:
    """One column. `key` is unique in a table; `group` is the heading above `header`.

    unit: percent (of a share in [0, 1]), limits (in percent, without the value), points (a difference
    of shares), rho (a signed fraction), fraction, p (a p value), count. better: which end is marked as
    best; None where neither end is better. digits: decimals in print.
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
    symmetric. values: (seed, value) of each seed. best: the best mean of its column; near: not significantly
    different from the best. verdict, of a published number: inside, below or above our interval.
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


class RunDigest(NamedTuple):
    """A run that a table was made from: its folder, its id, and the digest of the outcomes used."""

    folder: str
    id: str
    digest: str


@dataclass(frozen=True)
class Row:
    """One of our entries, or a published result (`source` cites it): a cell for each column of the table.

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

    @property
    def name(self) -> str:
        """Its title; the label of a row without one."""
        return self.title or self.label


@dataclass(frozen=True)
class Table:
    """Rows with the caption and the notes that make them readable alone.

    caption: short sentences, the most important first. description: the same in full. definitions: those of
    its sentences that explain what is shown, for the legend. request: the options of `build_tables` that make
    it again from the records in its evidence, and the `settings_digest` of its attack; empty for published
    tables.
    """

    dataset: str
    model: str
    protocol: str
    protocol_version: str
    attack: str
    view: str
    title: str
    caption: tuple[str, ...]
    description: tuple[str, ...]
    definitions: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    error: ErrorKind
    convention: str
    head: str = "method"
    attack_settings: str = ""  # as JSON; "" without attack
    evidence: tuple[RunDigest, ...] = ()
    request: tuple[tuple[str, Any], ...] = ()
    rules: int = RULES

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns with the number of columns under each."""
        return [(name, len(list(members))) for name, members in groupby(c.group for c in self.columns)]

    def cell(self, row: Row, key: str) -> TableCell:
        """The cell of `row` in the column called `key`; an empty one when the table has no such column."""
        cells = {column.key: cell for column, cell in zip(self.columns, row.cells, strict=True)}
        return cells.get(key, TableCell())


def change_columns(
    rows: Sequence[Row],
    columns: Sequence[Column],
    change: Callable[[Column, list[TableCell]], Sequence[TableCell]],
) -> tuple[Row, ...]:
    """The rows with the cells that `change` returns for each column and its cells from top to bottom."""
    changed = [change(column, [row.cells[k] for row in rows]) for k, column in enumerate(columns)]
    by_row = zip(*changed, strict=True) if changed else [()] * len(rows)
    return tuple(replace(row, cells=tuple(cells)) for row, cells in zip(rows, by_row, strict=True))
