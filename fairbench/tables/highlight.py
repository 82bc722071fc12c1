"""Marks of cells: the best mean of a column, and the cells that are not significantly different from it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairbench.stats.paired import near_best
from fairbench.tables.table import Column, Row, TableCell, change_columns

ERROR = 0.05  # largest chance that the truly best method has no mark
ROUNDING = 1e-12  # means of the same values in another order differ by rounding only: they tie


def marked(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with `best` and `near` set in each column that has at least two numbers."""
    return change_columns(rows, columns, _marked)


def _marked(column: Column, cells: list[TableCell]) -> list[TableCell]:
    compared = sum(cell.exists for cell in cells)
    if column.better is None or compared < 2:
        return cells
    sign = 1.0 if column.better == "high" else -1.0
    values = [sign * (cell.value or 0.0) if cell.exists else -math.inf for cell in cells]
    top = cells[values.index(max(values))]
    marked_cells = []
    for cell, value in zip(cells, values, strict=True):
        best = value >= max(values) - ROUNDING
        near = cell.exists and not best and bool(top.values) and _near(cell, top, sign, compared)
        marked_cells.append(replace(cell, best=best, near=near))
    return marked_cells


def _near(cell: TableCell, top: TableCell, sign: float, compared: int) -> bool:
    """Whether `cell` is not significantly different from the best of `compared` cells.

    One-sided paired t test over the seeds of both, Bonferroni over the comparisons with the best. With fewer
    than two common seeds there is no test, and the answer is yes.
    """
    own, other = dict(cell.values), dict(top.values)
    common = sorted(own.keys() & other.keys())
    if len(common) < 2:
        return True
    pair = sign * np.array([[values[seed] for seed in common] for values in (other, own)])
    return bool(near_best(pair, 1 - ERROR / (compared - 1))[1])
