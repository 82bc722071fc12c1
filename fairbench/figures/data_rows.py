"""The rows of a figure's data: the numbers of the tables, by the same functions."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from fairbench.figures.panels import class_names, key_of
from fairbench.tables.by_class import class_cells
from fairbench.tables.columns import measure
from fairbench.tables.entries import Entry
from fairbench.tables.inventory import TableSpec
from fairbench.tables.table import TableCell


def stacked_frame(parts: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A frame of parts below each other; each part has columns by name, of which at least one is a list."""
    frames = [pd.DataFrame(part) for part in parts]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def entry_columns(spec: TableSpec, entry: Entry) -> dict[str, Any]:
    """The columns for the setting, attack and entry that a row belongs to. `entry` is unique in a panel."""
    key = key_of(spec)
    return {
        "dataset": key.dataset,
        "model": key.model,
        "protocol": key.protocol,
        "attack": key.attack,
        "method": entry.method,
        "entry": entry.label,
        "title": entry.title,
        "seeds": len(entry.seeds),
    }


def value_columns(cell: TableCell) -> dict[str, float]:
    """`value`, `low` and `high` of a table's cell; NaN where it has none."""
    value = float("nan") if cell.value is None else cell.value
    low, high = cell.low, cell.high
    if low is None and cell.half_width is not None:
        low, high = value - cell.half_width, value + cell.half_width
    return {
        "value": value,
        "low": float("nan") if low is None else low,
        "high": float("nan") if high is None else high,
    }


def table_cell(entry: Entry, side: str, name: str) -> TableCell:
    """The cell of a table's column `name`, which needs no baseline."""
    return measure(name).cell(entry, side)


def class_rows(
    spec: TableSpec, entry: Entry, side: str, measures: Iterable[str], head: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row of kind "class" for each class, then a row for each of `measures`; all begin with `head`."""
    names = class_names(spec)
    cells = [("class", name, cell) for name, cell in zip(names, class_cells(entry, side), strict=True)]
    cells += [(name, "", table_cell(entry, side, name)) for name in measures]
    return [{**head, "kind": kind, "class": name, **value_columns(cell)} for kind, name, cell in cells]
