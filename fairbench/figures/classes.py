"""Class-wise accuracy: bars per method where classes can be told apart, else sorted curves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.figures.figure import Figure, Options
from fairbench.figures.numbers import (
    FEW_CLASSES,
    entry_columns,
    limits,
    place_columns,
    whiskers,
)
from fairbench.figures.panels import Panel
from fairbench.figures.style import (
    INCHES,
    INK,
    Width,
    legend,
    looks,
    name_room,
    name_ticks,
    new_drawing,
    shown,
)
from fairbench.tables.by_class import class_cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PANEL_HEIGHT = 1.5


def classes_figure(panel: Panel, options: Options) -> Figure:
    """The accuracy of each class, clean above robust, with whiskers."""
    sides = panel.sides(options)
    data = classes_data(panel, sides)
    few = data["class"].nunique() <= FEW_CLASSES
    words = [panel.words(sides, ("average",), options)]
    if few:
        words.append(f"Bars are class accuracies. {whiskers(panel)}")
    else:
        wide = (data["high"] - data["low"]).groupby(data["entry"], sort=False).median() / 2
        told = ", ".join(f"{entry} {100 * half:.0f}" for entry, half in wide.items() if half == half)
        words.append(
            "Each method's classes are sorted by its own accuracy, which spreads them by chance as well: a "
            "class is known to about so many points (median half-width of the 95 % intervals, which are in "
            f"the data): {told or 'no interval'}."
        )
    with_style = draw_bars if few else draw_curves
    return Figure(panel.place, data, with_style(data, options.width or "two"), " ".join(words))


def classes_data(panel: Panel, sides: tuple[str, ...]) -> "pd.DataFrame":
    """One row per side, method and class; `rank` counts the method's classes from the lowest, at 1."""
    import pandas as pd

    rows = []
    for side in sides:
        for entry in panel.entries:
            cells = class_cells(entry, side)
            order = np.argsort([limits(cell)["value"] for cell in cells], kind="stable")
            rank = {int(c): k + 1 for k, c in enumerate(order)}
            rows += [
                {
                    **place_columns(panel),
                    **entry_columns(entry),
                    "side": side,
                    "class": name,
                    "rank": rank[c],
                    **limits(cells[c]),
                }
                for c, name in enumerate(panel.class_names)
            ]
    return pd.DataFrame(rows)


def draw_bars(data: "pd.DataFrame", width: Width) -> "Drawing":
    """Groups of bars, one group per class in the order of the data set."""
    sides = list(data["side"].unique())
    names = [shown(name) for name in data["class"].unique()]
    room = name_room(names, INCHES[width] - 0.5)
    drawing = new_drawing(width, 0.35 + PANEL_HEIGHT * len(sides) + room)
    rows = drawing.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
    handles = [grouped_bars(axes, data[data["side"] == side]) for axes, side in zip(rows, sides, strict=True)]
    for axes, side in zip(rows, sides, strict=True):
        axes.set(ylim=(0, 100), ylabel=f"{side} accuracy (%)")
        axes.tick_params(axis="x", length=0)
    name_ticks(rows[-1], names, INCHES[width] - 0.5)
    legend(drawing, handles[0], [look.title for look in looks(data).values()])
    return drawing


def grouped_bars(axes: "Axes", data: "pd.DataFrame") -> list[Any]:
    """Bars of `value` in percent for each `entry`, side by side at each `class`; the handles of a legend."""
    found = looks(data)
    wide = 0.82 / len(found)
    handles = []
    for k, (entry, look) in enumerate(found.items()):
        own = data[data["entry"] == entry]
        x = np.arange(len(own)) + (k - (len(found) - 1) / 2) * wide
        handles.append(
            axes.bar(
                x,
                100 * own["value"],
                0.92 * wide,
                color=look.colour,
                hatch=look.hatch,
                edgecolor="white",
                lw=0,
            )
        )
        add_whiskers(axes, x, own)
    axes.set_xlim(-0.6, data["class"].nunique() - 0.4)
    return handles


def add_whiskers(axes: "Axes", x: np.ndarray, rows: "pd.DataFrame") -> None:
    """Limits in percent, where there are any."""
    there = rows["low"].notna().to_numpy()
    axes.vlines(
        x[there], 100 * rows["low"][there].clip(0, 1), 100 * rows["high"][there].clip(0, 1), color=INK, lw=0.7
    )


def draw_curves(data: "pd.DataFrame", width: Width) -> "Drawing":
    """Accuracies from the lowest class to the highest, a curve per method."""
    sides = list(data["side"].unique())
    drawing = new_drawing(width, 2.3)
    columns = drawing.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    handles: list[Any] = []
    for axes, side in zip(columns, sides, strict=True):
        handles = []
        for entry, look in looks(data).items():
            own = data[(data["side"] == side) & (data["entry"] == entry)].sort_values("rank")
            (line,) = axes.plot(own["rank"], 100 * own["value"], color=look.colour, ls=look.dash)
            handles.append(line)
        axes.set(
            xlim=(1, data["rank"].max()),
            ylim=(0, 100),
            xlabel="classes, from the lowest",
            title=f"{side}" if len(sides) > 1 else "",
        )
    columns[0].set_ylabel("class accuracy (%)" if len(sides) > 1 else f"{sides[0]} class accuracy (%)")
    legend(drawing, handles, [look.title for look in looks(data).values()])
    return drawing
