"""The spread of class accuracies of each method: every class, the mean, the worst and the gap."""

from typing import TYPE_CHECKING

import numpy as np

from fairbench.figures.figure import Figure, Options
from fairbench.figures.numbers import entry_columns, limits, measured, place_columns
from fairbench.figures.panels import Panel
from fairbench.figures.style import INCHES, INK, Width, looks, name_room, name_ticks, new_drawing
from fairbench.tables.by_class import class_cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

MEASURES = ("average", "worst", "gap")


def disparity_figure(panel: Panel, options: Options) -> Figure:
    """Dots of class accuracies per method, clean beside robust."""
    sides = panel.sides(options)
    data = disparity_data(panel, sides)
    words = (
        f"{panel.words(sides, MEASURES, options)} Dots are class accuracies, averaged over seeds and "
        "checkpoints; the bar is the average over images, the triangle the worst: of each checkpoint before "
        "averaging, so it lies at or below the lowest dot. The number is the gap in points."
    )
    return Figure(panel.place, data, draw(data, options.width or "two"), words)


def disparity_data(panel: Panel, sides: tuple[str, ...]) -> "pd.DataFrame":
    """Rows of kind class, average, worst and gap; `class` is named in the first."""
    import pandas as pd

    rows = []
    for side in sides:
        for entry in panel.entries:
            head = {**place_columns(panel), **entry_columns(entry), "side": side}
            cells = [
                ("class", name, c)
                for name, c in zip(panel.class_names, class_cells(entry, side), strict=True)
            ]
            cells += [(name, "", measured(entry, side, name)) for name in MEASURES]
            rows += [{**head, "kind": kind, "class": name, **limits(cell)} for kind, name, cell in cells]
    return pd.DataFrame(rows)


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """A column of dots per method."""
    sides = list(data["side"].unique())
    found = looks(data)
    titles = [look.title for look in found.values()]
    each = (INCHES[width] - 0.5) / len(sides)
    drawing = new_drawing(width, 2.3 + name_room(titles, each))
    columns = drawing.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(columns, sides, strict=True):
        for x, (entry, look) in enumerate(found.items()):
            own = data[(data["side"] == side) & (data["entry"] == entry)].set_index("kind")["value"]
            dots = 100 * np.atleast_1d(own["class"])
            axes.vlines(x, dots.min(), dots.max(), color=look.colour, lw=0.8, zorder=1)
            size = 14 if len(dots) <= 20 else 4
            axes.scatter(
                np.full(len(dots), x),
                dots,
                size,
                look.colour,
                alpha=0.75,
                edgecolor="white",
                lw=0.3,
                zorder=2,
            )
            axes.hlines(100 * own["average"], x - 0.3, x + 0.3, color=INK, lw=1.4, zorder=3)
            axes.plot([x], [100 * own["worst"]], "v", color=INK, ms=4, zorder=4)
            axes.text(x, 100 * dots.max() / 100 + 2, f"{100 * own['gap']:.0f}", ha="center", va="bottom")
        axes.set(ylim=(-4, 108), yticks=range(0, 101, 20), xlim=(-0.6, len(found) - 0.4), title=side)
        name_ticks(axes, titles, each)
    columns[0].set_ylabel("class accuracy (%)")
    return drawing
