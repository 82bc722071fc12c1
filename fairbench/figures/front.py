"""Average against worst-class accuracy: who is beaten in both, and who is not."""

from typing import TYPE_CHECKING

import numpy as np

from fairbench.figures.figure import Figure, Options
from fairbench.figures.numbers import entry_columns, limits, measured, place_columns
from fairbench.figures.panels import Panel
from fairbench.figures.style import INK, Width, legend, looks, new_drawing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MEASURES = ("average", "worst")


def front_figure(panel: Panel, options: Options) -> Figure:
    """Average and worst accuracy of each method, robust unless clean is asked for."""
    side = options.side or panel.sides(options)[-1]
    sides = tuple(s for s in panel.sides(options) if s == side)
    data = front_data(panel, side)
    words = panel.words(sides, MEASURES, options)
    words += " Bars in both directions are this half-width." if data["average_low"].notna().any() else ""
    words += " The line joins the methods that no other one reaches in both."
    return Figure(panel.place, data, draw(data, options.width or "one"), words)


def front_data(panel: Panel, side: str) -> "pd.DataFrame":
    """One row per method; `front`: no other is at least as good in both and better in one."""
    import pandas as pd

    rows = []
    for entry in panel.entries:
        row = {**place_columns(panel), **entry_columns(entry), "side": side}
        for name in MEASURES:
            cell = limits(measured(entry, side, name))
            row |= {name if key == "value" else f"{name}_{key}": value for key, value in cell.items()}
        rows.append(row)
    points = np.array([[row["average"], row["worst"]] for row in rows])
    for row, point in zip(rows, points, strict=True):
        better = (points >= point).all(1) & (points > point).any(1)
        row["front"] = not better.any()
    return pd.DataFrame(rows)


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """Points with bars in both directions."""
    drawing = new_drawing(width, 2.7)
    axes = drawing.subplots()
    best = data[data["front"]].sort_values(["average", "worst"])
    axes.plot(100 * best["average"], 100 * best["worst"], color=INK, lw=0.7, ls=(0, (3, 2)), zorder=1)
    handles = []
    for entry, look in looks(data).items():
        row = data[data["entry"] == entry].iloc[0]
        x, y = 100 * row["average"], 100 * row["worst"]
        for name, line in (("average", axes.hlines), ("worst", axes.vlines)):
            if not np.isnan(row[f"{name}_low"]):
                at, low, high = (y if name == "average" else x), row[f"{name}_low"], row[f"{name}_high"]
                line(
                    at, 100 * max(low, 0), 100 * min(high, 1), color=look.colour, lw=0.8, alpha=0.8, zorder=2
                )
        handles += axes.plot(
            [x], [y], look.marker, color=look.colour, ms=5.5, mec=INK, mew=0.5, ls="", zorder=3
        )
    side = data["side"].iloc[0]
    axes.grid(axis="x")
    axes.margins(0.08)
    at_least(axes, 2.0)
    axes.set(xlabel=f"average {side} accuracy (%)", ylabel=f"worst-class {side} accuracy (%)")
    legend(drawing, handles, [look.title for look in looks(data).values()])
    return drawing


def at_least(axes: "Axes", span: float) -> None:
    """Axes that reach over `span` points or more: equal numbers are not blown up."""
    for low, high, set_limits in ((*axes.get_xlim(), axes.set_xlim), (*axes.get_ylim(), axes.set_ylim)):
        if high - low < span:
            set_limits((low + high - span) / 2, (low + high + span) / 2)
