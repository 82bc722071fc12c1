"""Accuracy of every class: the classes below each other, or the methods where there are more of them."""

from collections.abc import Sequence

import numpy as np

from fairbench.stats.intervals import wilson_interval
from fairbench.tables.columns import seed_cell
from fairbench.tables.entries import Entry
from fairbench.tables.highlight import marked
from fairbench.tables.table import Column, Row, TableCell


def rows(entries: Sequence[Entry], side: str) -> tuple[str, tuple[Column, ...], tuple[Row, ...]]:
    """The head of the rows ("method" or "class"), the columns, and the rows with the best marked."""
    names = entries[0].record.class_names if entries else ()
    columns = (
        Column(f"{side}_average", "average", side, digits=1),
        *(Column(f"{side}_class_{c}", name, side, digits=1) for c, name in enumerate(names)),
    )
    found = marked([_row(entry, side) for entry in entries], columns)
    if len(names) <= len(entries):
        return "method", columns, found
    turned = tuple(
        Row(method="", label=column.header, cells=tuple(row.cells[k] for row in found))
        for k, column in enumerate(columns)
    )
    return (
        "class",
        tuple(Column(f"{side}_{row.label}", row.title or row.label, side, digits=1) for row in found),
        turned,
    )


def _row(entry: Entry, side: str) -> Row:
    average = seed_cell({seed: found.average for seed, found in entry.sides(side).items()})
    return Row(entry.method, entry.label, (average, *class_cells(entry, side)), entry.title)


def class_cells(entry: Entry, side: str) -> list[TableCell]:
    """(C,) the accuracy of each class: t interval over seeds; of one seed the Wilson interval over images."""
    sides = entry.sides(side)
    means = {seed: found.class_accuracy.mean(0) for seed, found in sides.items()}
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
    """The cell with the 95 % limits of `hits` of `count` images; as it is without an image."""
    if count < 1:
        return cell
    low, high = wilson_interval(float(hits), float(count))
    return TableCell(cell.value, low=float(low), high=float(high), values=cell.values)
