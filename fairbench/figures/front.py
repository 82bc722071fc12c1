"""Average against worst-class accuracy, and the methods that no other method exceeds in both."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns, table_cell, value_columns
from fairbench.figures.drawing import at_least, entry_legend, new_drawing
from fairbench.figures.figure import Figure, FigureOptions
from fairbench.figures.panels import key_of, sides_of, table_caption
from fairbench.figures.style import INK, Width, entry_styles
from fairbench.tables.inventory import TableSpec

MEASURES = ("average", "worst")


def front_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """Average and worst accuracy of each method, robust unless clean is asked for."""
    side = sides_of(spec, options)[-1]
    data = front_data(spec, side)
    sentences = [table_caption(spec, (side,), MEASURES, options)]
    if data["average_low"].notna().any():
        sentences.append("Error bars in both directions are this half-width.")
    sentences.append(
        "The dashed line joins the Pareto front: the methods for which no other method is at least as good "
        "in both accuracies and better in one."
    )
    return Figure(key_of(spec), data, draw(data, options.width or "one"), " ".join(sentences))


def front_data(spec: TableSpec, side: str) -> pd.DataFrame:
    """One row per method; `front`: no other is at least as good in both and better in one."""
    rows = []
    for entry in spec.entries:
        row = {**entry_columns(spec, entry), "side": side}
        for name in MEASURES:
            columns = value_columns(table_cell(entry, side, name))
            row |= {name if key == "value" else f"{name}_{key}": value for key, value in columns.items()}
        rows.append(row)
    points = np.array([[row["average"], row["worst"]] for row in rows])
    for row, point in zip(rows, points, strict=True):
        better = (points >= point).all(1) & (points > point).any(1)
        row["front"] = not better.any()
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A point for each method, with error bars in both directions."""
    drawing = new_drawing(width, 2.7)
    axes = drawing.subplots()
    front = data[data["front"]].sort_values(["average", "worst"])
    axes.plot(100 * front["average"], 100 * front["worst"], color=INK, lw=0.7, ls=(0, (3, 2)), zorder=1)
    styles = entry_styles(data)
    handles = []
    for entry, style in styles.items():
        row = data[data["entry"] == entry].iloc[0]
        x, y = 100 * row["average"], 100 * row["worst"]
        for name, line, at in (("average", axes.hlines, y), ("worst", axes.vlines, x)):
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            if not np.isnan(low):
                low, high = 100 * max(low, 0), 100 * min(high, 1)
                line(at, low, high, color=style.colour, lw=0.8, alpha=0.8, zorder=2)
        handles += axes.plot(
            [x], [y], style.marker, color=style.colour, ms=5.5, mec=INK, mew=0.5, ls="", zorder=3
        )
    side = data["side"].iloc[0]
    axes.grid(axis="x")
    axes.margins(0.08)
    axes.set_xlim(at_least(axes.get_xlim()))
    axes.set_ylim(at_least(axes.get_ylim()))
    axes.set(xlabel=f"average {side} accuracy (%)", ylabel=f"worst-class {side} accuracy (%)")
    entry_legend(drawing, handles, styles)
    return drawing
