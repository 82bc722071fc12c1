"""Marks of cells: the best mean of a column, and the cells that are not significantly different from it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fairbench.stats.best import near_best, near_best_unmoderated
from fairbench.tables.table import RULES, Column, Row, TableCell, change_columns

ERROR = 0.05  # chance that the truly best method of a column has no mark
ROUNDING = 1e-12  # means of the same values in another order differ by rounding only: they tie


def marked(rows: Sequence[Row], columns: Sequence[Column], rules: int = RULES) -> tuple[Row, ...]:
    """The rows with `best` and `near` set in each column that has at least two numbers.

    A column where no method shares two seeds with the best has no marks: there is no evidence for any.
    rules: 1 marks as before moderated variances, for `fairbench verify` of tables of that time.
    """
    return change_columns(rows, columns, partial(_marked, rules=rules))


def marked_as_published(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with `best` set in each column that has at least two numbers, untested as papers print it."""
    return change_columns(rows, columns, _best)


def _marked(column: Column, cells: list[TableCell], rules: int) -> list[TableCell]:
    values = _ascending(column, cells)
    if not values:
        return cells
    top = values.index(max(values))
    others = (cell for k, cell in enumerate(cells) if k != top)
    if rules >= 2 and not any(_shared(cell, cells[top]) >= 2 for cell in others):
        return cells
    near = _near(column, cells, top, rules) if cells[top].values else set()
    return [replace(cell, near=not cell.best and k in near) for k, cell in enumerate(_best(column, cells))]


def _ascending(column: Column, cells: Sequence[TableCell]) -> list[float]:
    """The values, higher is better, -inf for none; empty where there is nothing to compare."""
    if column.better is None or sum(cell.exists for cell in cells) < 2:
        return []
    sign = 1.0 if column.better == "high" else -1.0
    return [sign * (cell.value or 0.0) if cell.exists else -math.inf for cell in cells]


def _best(column: Column, cells: list[TableCell]) -> list[TableCell]:
    values = _ascending(column, cells)
    if not values:
        return cells
    return [
        replace(cell, best=value >= max(values) - ROUNDING) for cell, value in zip(cells, values, strict=True)
    ]


def _near(column: Column, cells: Sequence[TableCell], top: int, rules: int) -> set[int]:
    """The cells that are not significantly different from the one at `top`, or cannot be tested."""
    existing = [k for k, cell in enumerate(cells) if cell.exists]
    tested = [k for k in existing if cells[k].values]
    seeds = sorted({seed for k in tested for seed, _ in cells[k].values})
    sign = 1.0 if column.better == "high" else -1.0
    table = np.array([[sign * dict(cells[k].values).get(seed, math.nan) for seed in seeds] for k in tested])
    test = near_best if rules >= 2 else near_best_unmoderated
    error = ERROR * (len(tested) - 1) / (len(existing) - 1)  # each comparison has an equal part of it
    near = test(table, 1 - error, tested.index(top)) if error else [True]
    return {k for k, close in zip(tested, near, strict=True) if close} | (set(existing) - set(tested))


def _shared(cell: TableCell, other: TableCell) -> int:
    """The number of seeds that both have."""
    return len(dict(cell.values).keys() & dict(other.values).keys())
