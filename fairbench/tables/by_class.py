"""Accuracy of every class: one row per class, or one row per method where there are more methods."""

from collections.abc import Sequence

import numpy as np

from fairbench.stats.intervals import wilson_interval
from fairbench.tables.columns import seed_cell
from fairbench.tables.entries import Entry
from fairbench.tables.highlight import marked
from fairbench.tables.table import Column, Row, TableCell


def rows(entries: Sequence[Entry], side: str, rules: int) -> tuple[str, tuple[Column, ...], tuple[Row, ...]]:
    """The head of the rows ("method" or "class"), the columns, and the rows with the best marked."""
    names = entries[0].record.class_names if entries else ()
    columns = (
        Column(f"{side}_average", "average", side, digits=1),
        *(Column(f"{side}_class_{c}", name, side, digits=1) for c, name in enumerate(names)),
    )
    by_method = marked([_row(entry, side) for entry in entries], columns, rules)
    if len(names) <= len(entries):
        return "method", columns, by_method
    by_class = tuple(
        Row(method="", label=column.header, cells=tuple(row.cells[k] for row in by_method))
        for k, column in enumerate(columns)
    )
    methods = tuple(Column(f"{side}_{row.label}", row.name, side, digits=1) for row in by_method)
    return "class", methods, by_class


def _row(entry: Entry, side: str) -> Row:
    average = seed_cell({seed: one.average for seed, one in entry.sides(side).items()})
    return Row(entry.method, entry.label, (average, *class_cells(entry, side)), entry.title)


def class_cells(entry: Entry, side: str) -> list[TableCell]:
    """C cells, the accuracy of each class: t interval over seeds; for one seed, Wilson over its images."""
    sides = entry.sides(side)
    means = {seed: one.class_accuracy.mean(0) for seed, one in sides.items()}
    cells = across_seeds(means)
    if len(sides) != 1:
        return cells
    only = next(iter(sides.values()))
    hits = only.hits.mean(0)
    return [with_wilson(cell, hits[c], only.count[c]) for c, cell in enumerate(cells)]


def across_seeds(values: dict[int, np.ndarray]) -> list[TableCell]:
    """A cell for each position of the vectors, one vector per seed."""
    width = len(next(iter(values.values()), ()))
    return [seed_cell({seed: float(vector[k]) for seed, vector in values.items()}) for k in range(width)]


def with_wilson(cell: TableCell, hits: float, count: float) -> TableCell:
    """The cell with the 95 % limits of `hits` of `count` images; unchanged without an image."""
    if count < 1:
        return cell
    low, high = wilson_interval(float(hits), float(count))
    return TableCell(cell.value, low=low, high=high, values=cell.values)
