"""Breaking a table that is too wide into blocks of columns below each other."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from fairbench.tables.table import Table


def column_blocks(table: Table, fits: Callable[[Table], bool]) -> list[Table]:
    """The whole table where it fits, else each group of columns in as few parts as possible.

    A part of a single column is kept even where it does not fit.
    """
    if fits(table):
        return [table]
    blocks: list[Table] = []
    first = 0
    for _, count in table.groups:
        for parts in range(1, count + 1):
            edges = [first + round(count * k / parts) for k in range(parts + 1)]
            cuts = [_cut(table, slice(*edge)) for edge in pairwise(edges)]
            if all(map(fits, cuts)):
                break
        blocks += cuts
        first += count
    return blocks


def _cut(table: Table, part: slice) -> Table:
    rows = tuple(replace(row, cells=row.cells[part]) for row in table.rows)
    return replace(table, columns=table.columns[part], rows=rows)
