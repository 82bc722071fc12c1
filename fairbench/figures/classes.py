"""Accuracy of every class: bars per class where they are few, else a sorted line per method."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns, value_columns
from fairbench.figures.drawing import (
    class_bars,
    entry_legend,
    name_ticks,
    new_drawing,
    sorted_line,
    turned_height,
)
from fairbench.figures.figure import Figure, FigureOptions
from fairbench.figures.panels import class_names, key_of, sides_of, table_caption
from fairbench.figures.style import FEW_CLASSES, INCHES, Width, entry_styles, printable
from fairbench.tables.by_class import class_cells
from fairbench.tables.inventory import TableSpec

PANEL_HEIGHT = 1.5


def classes_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """The accuracy of each class, clean above robust, with whiskers."""
    sides = sides_of(spec, options)
    data = classes_data(spec, sides)
    few = len(class_names(spec)) <= FEW_CLASSES
    explanation = f"Bars are class accuracies. {_whiskers(spec)}" if few else _sorted_classes(data)
    draw = draw_bars if few else draw_sorted
    return Figure(
        key_of(spec),
        data,
        draw(data, options.width or "two"),
        f"{table_caption(spec, sides, ('average',), options)} {explanation}",
    )


def _whiskers(spec: TableSpec) -> str:
    counts = [len(entry.seeds) for entry in spec.entries]
    if max(counts) == 1:
        return "Whiskers are 95 % Wilson intervals over the test images."
    single = "; for one seed, 95 % Wilson intervals over the test images" if min(counts) == 1 else ""
    return f"Whiskers are 95 % t intervals over seeds{single}."


def _sorted_classes(data: pd.DataFrame) -> str:
    half_width = (data["high"] - data["low"]).groupby(data["entry"], sort=False).median() / 2
    listed = ", ".join(f"{entry} {100 * half:.0f}" for entry, half in half_width.items() if half == half)
    return (
        "The classes of each method are sorted by its own accuracy, so sampling noise alone makes a line "
        "rise. Median half-width of the 95 % intervals of the classes, in points (all intervals are in the "
        f".csv file): {listed or 'no interval'}."
    )


def classes_data(spec: TableSpec, sides: tuple[str, ...]) -> pd.DataFrame:
    """One row per side, method and class; `rank` counts the method's classes from the lowest, at 1."""
    rows = []
    for side in sides:
        for entry in spec.entries:
            values = [value_columns(cell) for cell in class_cells(entry, side)]
            order = np.argsort([value["value"] for value in values], kind="stable")
            rank = {int(c): k for k, c in enumerate(order, 1)}
            head = {**entry_columns(spec, entry), "side": side}
            rows += [
                {**head, "class": name, "rank": rank[c], **values[c]}
                for c, name in enumerate(class_names(spec))
            ]
    return pd.DataFrame(rows)


def draw_bars(data: pd.DataFrame, width: Width) -> Drawing:
    """A group of bars for each class, in the order of the data set."""
    sides = list(data["side"].unique())
    names = [printable(name) for name in data["class"].unique()]
    styles = entry_styles(data)
    inches = INCHES[width] - 0.5
    drawing = new_drawing(width, 0.35 + PANEL_HEIGHT * len(sides) + turned_height(names, inches))
    grid = drawing.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
    for axes, side in zip(grid, sides, strict=True):
        rows = data[data["side"] == side]
        handles = class_bars(
            axes,
            [(rows[rows["entry"] == entry], style.colour, style.hatch) for entry, style in styles.items()],
        )
        axes.set(ylim=(0, 100), ylabel=f"{side} accuracy (%)")
    name_ticks(grid[-1], names, inches)
    entry_legend(drawing, handles, styles)
    return drawing


def draw_sorted(data: pd.DataFrame, width: Width) -> Drawing:
    """A line for each method over its classes, from the lowest accuracy to the highest."""
    sides = list(data["side"].unique())
    styles = entry_styles(data)
    drawing = new_drawing(width, 2.3)
    grid = drawing.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(grid, sides, strict=True):
        rows = data[data["side"] == side]
        handles = [
            sorted_line(axes, rows[rows["entry"] == entry], style.colour, style.dash)
            for entry, style in styles.items()
        ]
        axes.set(
            ylim=(0, 100),
            xlabel="classes, from the lowest accuracy",
            title=side if len(sides) > 1 else "",
        )
    grid[0].set_ylabel("class accuracy (%)" if len(sides) > 1 else f"{sides[0]} class accuracy (%)")
    entry_legend(drawing, handles, styles)
    return drawing
