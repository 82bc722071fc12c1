"""Numbers as rows of a figure's data: the same as in the tables, by the same functions."""

from typing import Any

from fairbench.figures.panels import Panel
from fairbench.tables.columns import Baseline, measure
from fairbench.tables.entries import Entry
from fairbench.tables.table import TableCell

FEW_CLASSES = 20  # up to so many, each class has its name in a figure


def place_columns(panel: Panel) -> dict[str, str]:
    """The columns that say where a row of data belongs."""
    place = panel.place
    return {
        "dataset": place.dataset,
        "model": place.model,
        "protocol": place.protocol,
        "attack": place.attack,
    }


def entry_columns(entry: Entry) -> dict[str, Any]:
    """The columns that say whose a row of data is. `entry` is unique in a panel."""
    return {"method": entry.method, "entry": entry.label, "title": entry.title, "seeds": len(entry.seeds)}


def limits(cell: TableCell) -> dict[str, float]:
    """Value and limits of a cell as columns; NaN where there are none."""
    value = float("nan") if cell.value is None else cell.value
    low, high = cell.low, cell.high
    if low is None and cell.half_width is not None:
        low, high = value - cell.half_width, value + cell.half_width
    return {
        "value": value,
        "low": float("nan") if low is None else low,
        "high": float("nan") if high is None else high,
    }


def measured(entry: Entry, side: str, name: str) -> TableCell:
    """The number of a table's column `name`."""
    return measure(name).cell(entry, side, Baseline(None, "signed"))


def whiskers(panel: Panel) -> str:
    """The sentence that says what the whiskers at class accuracies are."""
    counts = [len(entry.seeds) for entry in panel.entries]
    if max(counts) == 1:
        return "Whiskers are 95 % Wilson intervals over the test images."
    single = "; for one seed, 95 % Wilson intervals over the test images" if min(counts) == 1 else ""
    return f"Whiskers are 95 % t intervals over seeds{single}."
