"""The parts that several kinds of figures draw: panels in a grid, lines, bars, whiskers, axes and legends."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from fairbench.figures.style import (
    CHARACTER_INCHES,
    DASHES,
    FEW_CLASSES,
    INCHES,
    INK,
    MARKERS,
    NAME_INCHES,
    EntryStyle,
    Width,
    class_colours,
    fit,
    printable,
)

PANEL_INCHES = 2.0  # width of one of three panels in a row


def new_drawing(width: Width, height: float) -> Drawing:
    """An empty drawing, `height` in inches. Not made by pyplot, which would keep it in memory."""
    return Drawing(figsize=(INCHES[width], height))


def small_panels(
    width: Width, count: int, height: float = 1.75, *, sharex: bool = True, sharey: bool = True
) -> tuple[Drawing, list[Axes]]:
    """A drawing with `count` axes of `height` inches: three in a row for width "two", else one.

    With `sharex`, call `label_lowest` when they are drawn.
    """
    across = min(count, 3 if width == "two" else 1)
    down = math.ceil(count / across)
    drawing = new_drawing(width, 0.45 + height * down)
    grid = drawing.subplots(down, across, squeeze=False, sharex=sharex, sharey=sharey)
    return drawing, keep_first(grid, count)


def keep_first(grid: np.ndarray, count: int) -> list[Axes]:
    """The first `count` axes of a grid; the others are removed."""
    for axes in grid.flat[count:]:
        axes.remove()
    return list(grid.flat[:count])


def label_lowest(grid: Sequence[Axes]) -> None:
    """Keep the title and the numbers of an x axis only where no other panel is below it."""
    places = []
    for axes in grid:
        spec = axes.get_subplotspec()
        assert spec is not None
        places.append((spec.rowspan.start, spec.colspan.start))
    for axes, (row, column) in zip(grid, places, strict=True):
        lowest = not any(other > row and beside == column for other, beside in places)
        axes.tick_params(labelbottom=lowest)
        if not lowest:
            axes.set_xlabel("")


def legend(drawing: Drawing, handles: Sequence[Artist], titles: Sequence[str]) -> None:
    """A legend above the axes, in as many columns as fit."""
    room = CHARACTER_INCHES * max(map(len, titles), default=1) + 0.5
    columns = max(1, min(len(titles), int(drawing.get_figwidth() / room)))
    rows = math.ceil(len(titles) / columns)
    columns = math.ceil(len(titles) / rows)
    # matplotlib leaves out labels that begin with an underscore: names are set afterwards.
    box = drawing.legend(
        list(handles), ["-"] * len(titles), loc="outside upper left", ncols=columns, borderpad=0.2
    )
    for text, title in zip(box.get_texts(), titles, strict=True):
        text.set_text(title)


def entry_legend(drawing: Drawing, handles: Sequence[Artist], styles: Mapping[str, EntryStyle]) -> None:
    """A legend with a handle for each entry."""
    legend(drawing, handles, [style.title for style in styles.values()])


def class_legend(
    drawing: Drawing, handles: Sequence[Any], names: Sequence[str], more: Sequence[tuple[Any, str]] = ()
) -> None:
    """A legend with `more` handles and their words, then the classes, by name where they are few."""
    few = len(names) <= FEW_CLASSES
    all_handles = [handle for handle, _ in more] + list(handles if few else handles[:1])
    words = [word for _, word in more] + ([printable(name) for name in names] if few else ["one class"])
    legend(drawing, all_handles, words)


def name_ticks(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Names at 0, 1, ... of an x axis that is `inches` long, turned where they would touch each other."""
    axes.set_xticks(range(len(names)), [fit(name, NAME_INCHES) for name in names])
    if turned_height(names, inches) > 0:
        for text in axes.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)


def turned_height(names: Sequence[str], inches: float) -> float:
    """The additional height in inches that `name_ticks` needs for turned names; 0 when they fit unturned."""
    longest = min(max(map(len, names), default=0) * CHARACTER_INCHES, NAME_INCHES)
    return 0.65 * longest if longest > 0.95 * inches / max(len(names), 1) else 0.0


def whole_number_ticks(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers only, for epochs."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def at_least(limits: tuple[float, float], span: float = 2.0) -> tuple[float, float]:
    """The limits of an axis, moved apart to at least `span` points, so that equal numbers look equal."""
    low, high = limits
    if high - low >= span:
        return low, high
    return (low + high - span) / 2, (low + high + span) / 2


def class_bars(axes: Axes, groups: Sequence[tuple[pd.DataFrame, str, str]]) -> list[Any]:
    """Bars of `value` in percent with whiskers; the handles of a legend.

    groups: rows, one per class, with their colour and hatch. The bars of a class stand beside each other.
    """
    wide = 0.82 / len(groups)
    handles = []
    for k, (rows, colour, hatch) in enumerate(groups):
        x = np.arange(len(rows)) + (k - (len(groups) - 1) / 2) * wide
        handles.append(
            axes.bar(x, 100 * rows["value"], 0.92 * wide, color=colour, hatch=hatch, edgecolor="white", lw=0)
        )
        known = rows["low"].notna().to_numpy()
        low, high = (100 * rows[name][known].clip(0, 1) for name in ("low", "high"))
        axes.vlines(x[known], low, high, color=INK, lw=0.7)
    axes.set_xlim(-0.6, max(len(rows) for rows, *_ in groups) - 0.4)
    axes.tick_params(axis="x", length=0)
    return handles


def sorted_line(axes: Axes, rows: pd.DataFrame, colour: str, dash: Any) -> Any:
    """A line of `value` in percent, one row per class, from the lowest to the highest."""
    values = np.sort(100 * rows["value"])
    (line,) = axes.plot(range(1, len(values) + 1), values, color=colour, ls=dash)
    axes.set_xlim(1, len(values))
    return line


def class_lines(
    axes: Axes, data: pd.DataFrame, x: str, names: Sequence[str], scale: float = 1.0
) -> list[Any]:
    """A line of `value` over `x` for each class; the handles of a legend."""
    handles: list[Any] = []
    colours = class_colours(len(names))
    few = len(names) <= FEW_CLASSES
    for c, name in enumerate(names):
        rows = data[data["class"] == name]
        handles += axes.plot(
            rows[x],
            scale * rows["value"],
            color=colours[c],
            ls=DASHES[c % 4] if few else "-",
            marker=MARKERS[c % len(MARKERS)] if few and len(rows) <= 12 else None,
            ms=2.6,
            lw=0.9 if few else 0.4,
            clip_on=False,
        )
    return handles


def band(axes: Axes, rows: pd.DataFrame, x: str, style: EntryStyle, scale: float = 1.0) -> Any:
    """A line of `value` over `x`, with a band from `low` to `high`; the line."""
    (line,) = axes.plot(
        rows[x],
        scale * rows["value"],
        color=style.colour,
        ls=style.dash,
        marker=style.marker,
        markevery=max(1, len(rows) // 6),
        ms=3,
        mec="white",
        mew=0.3,
    )
    axes.fill_between(
        rows[x], scale * rows["low"], scale * rows["high"], color=style.colour, alpha=0.18, lw=0
    )
    return line
