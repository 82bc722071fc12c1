"""Which cells of a column are best, and which cannot be told from the best."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairbench.stats.paired import near_best
from fairbench.tables.table import Column, Row, TableCell

ERROR = 0.05  # chance that the truly best method is not marked, at most
ROUNDING = 1e-12  # means of exchanged seeds differ by rounding only, and are equally high


def marked(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with `best` and `near` set in each column; nothing is best of one."""
    cells = [list(row.cells) for row in rows]
    for k, column in enumerate(columns):
        if column.better is not None:
            here = _marked([row.cells[k] for row in rows], 1.0 if column.better == "high" else -1.0)
            for line, cell in zip(cells, here, strict=True):
                line[k] = cell
    return tuple(replace(row, cells=tuple(line)) for row, line in zip(rows, cells, strict=True))


def _marked(cells: Sequence[TableCell], sign: float) -> list[TableCell]:
    values = [sign * (cell.value or 0.0) if cell.exists else -math.inf for cell in cells]
    compared = sum(cell.exists for cell in cells)
    if compared < 2:
        return list(cells)
    top = cells[values.index(max(values))]
    found = []
    for cell, value in zip(cells, values, strict=True):
        best = value >= max(values) - ROUNDING
        near = cell.exists and not best and bool(top.values) and _near(cell, top, sign, compared)
        found.append(replace(cell, best=best, near=near))
    return found


def _near(cell: TableCell, top: TableCell, sign: float, compared: int) -> bool:
    """Whether the seeds that both have do not tell `cell` from the best of `compared` cells.

    Fewer than two such seeds tell nothing. One-sided paired t, Bonferroni over the comparisons with the best.
    """
    own, other = dict(cell.values), dict(top.values)
    common = sorted(own.keys() & other.keys())
    if len(common) < 2:
        return True
    pair = sign * np.array([[values[seed] for seed in common] for values in (other, own)])
    return bool(near_best(pair, 1 - ERROR / (compared - 1))[1])
