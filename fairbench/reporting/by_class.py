"""Accuracy of every class: the classes below each other, or the methods where there are more of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairbench.reporting.columns import seed_cell
from fairbench.reporting.entries import Entry, Side
from fairbench.reporting.marks import marked
from fairbench.reporting.table import Cell, Column, Row
from fairbench.stats.intervals import wilson_interval


def rows(entries: Sequence[Entry], side: str) -> tuple[str, tuple[Column, ...], tuple[Row, ...]]:
    """The head of the rows ("method" or "class"), the columns, and the rows with the best marked."""
    names = next((next(iter(entry.seeds.values())).record.class_names for entry in entries), ())
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
    sides = entry.sides(side)
    means = {seed: found.class_accuracy.mean(0) for seed, found in sides.items()}  # (C,) each
    cells = [seed_cell({seed: found.average for seed, found in sides.items()})]
    num_classes = len(next(iter(means.values()), ()))
    cells += [seed_cell({seed: float(mean[c]) for seed, mean in means.items()}) for c in range(num_classes)]
    if len(sides) == 1:
        cells = [cells[0], *_with_limits(cells[1:], next(iter(sides.values())))]
    return Row(entry.method, entry.label, tuple(cells), entry.title)


def _with_limits(cells: Sequence[Cell], side: Side) -> list[Cell]:
    """One seed says nothing of the spread over seeds, but the test images do of theirs."""
    low, high = wilson_interval(side.hits.mean(0), side.count)
    limits = zip(cells, np.atleast_1d(low), np.atleast_1d(high), strict=True)
    return [replace(cell, low=float(below), high=float(above)) for cell, below, above in limits]
