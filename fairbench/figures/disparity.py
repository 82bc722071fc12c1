"""The spread of class accuracies of each method: every class, the average, the worst and the gap."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import class_rows, entry_columns
from fairbench.figures.drawing import name_ticks, new_drawing, turned_height
from fairbench.figures.figure import Figure, FigureOptions
from fairbench.figures.panels import key_of, sides_of, table_caption
from fairbench.figures.style import FEW_CLASSES, INCHES, INK, Width, entry_styles
from fairbench.tables.inventory import TableSpec

MEASURES = ("average", "worst", "gap")


def disparity_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """Dots of class accuracies per method, clean beside robust."""
    sides = sides_of(spec, options)
    data = disparity_data(spec, sides)
    caption = (
        f"{table_caption(spec, sides, MEASURES, options)} Dots are class accuracies, averaged over seeds and "
        "checkpoints. The bar is the average over images. The triangle is the worst of each checkpoint, "
        "averaged afterwards, so it lies at or below the lowest dot. The number is the gap in points."
    )
    return Figure(key_of(spec), data, draw(data, options.width or "two"), caption)


def disparity_data(spec: TableSpec, sides: tuple[str, ...]) -> pd.DataFrame:
    """Rows of kind class, average, worst and gap for each side and method."""
    rows = []
    for side in sides:
        for entry in spec.entries:
            rows += class_rows(spec, entry, side, MEASURES, {**entry_columns(spec, entry), "side": side})
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A column of dots per method."""
    sides = list(data["side"].unique())
    styles = entry_styles(data)
    titles = [style.title for style in styles.values()]
    inches = (INCHES[width] - 0.5) / len(sides)
    drawing = new_drawing(width, 2.3 + turned_height(titles, inches))
    grid = drawing.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(grid, sides, strict=True):
        for x, (entry, style) in enumerate(styles.items()):
            rows = data[(data["side"] == side) & (data["entry"] == entry)]
            values = 100 * rows.set_index("kind")["value"]
            dots = np.atleast_1d(values["class"])
            axes.vlines(x, dots.min(), dots.max(), color=style.colour, lw=0.8, zorder=1)
            axes.scatter(
                np.full(len(dots), x),
                dots,
                14 if len(dots) <= FEW_CLASSES else 4,
                style.colour,
                alpha=0.75,
                edgecolor="white",
                lw=0.3,
                zorder=2,
            )
            axes.hlines(values["average"], x - 0.3, x + 0.3, color=INK, lw=1.4, zorder=3)
            axes.plot([x], [values["worst"]], "v", color=INK, ms=4, zorder=4)
            axes.text(x, dots.max() + 2, f"{values['gap']:.0f}", ha="center", va="bottom")
        axes.set(ylim=(-4, 108), yticks=range(0, 101, 20), xlim=(-0.6, len(styles) - 0.4), title=side)
        name_ticks(axes, titles, inches)
    grid[0].set_ylabel("class accuracy (%)")
    return drawing
