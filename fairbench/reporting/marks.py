"""Which cells of a column are best, and which cannot be told from the best."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairbench.reporting.table import Cell, Column, Row
from fairbench.stats.paired import near_best

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


def _marked(cells: Sequence[Cell], sign: float) -> list[Cell]:
    values = [sign * (cell.value or 0.0) if cell.exists else -math.inf for cell in cells]
    if sum(cell.exists for cell in cells) < 2:
        return list(cells)
    best = [value >= max(values) - ROUNDING for value in values]
    near = _near(cells, sign)
    return [replace(c, best=b, near=n and not b) for c, b, n in zip(cells, best, near, strict=True)]


def _near(cells: Sequence[Cell], sign: float) -> list[bool]:
    """By paired comparison over the seeds that all have; nobody is near when those are fewer than two."""
    known = [k for k, cell in enumerate(cells) if cell.values]
    common = set.intersection(*(set(dict(cells[k].values)) for k in known)) if known else set()
    near = [False] * len(cells)
    if len(known) > 1 and len(common) > 1:
        table = sign * np.array([[dict(cells[k].values)[seed] for seed in sorted(common)] for k in known])
        for k, found in zip(known, near_best(table), strict=True):
            near[k] = bool(found)
    return near
