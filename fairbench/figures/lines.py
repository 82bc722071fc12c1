"""What figures of lines have in common: classes as lines, bands over seeds, small panels in a grid."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairbench.figures.numbers import FEW_CLASSES
from fairbench.figures.style import (
    DASHES,
    MARKERS,
    EntryStyle,
    Width,
    class_colours,
    legend,
    new_drawing,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


GRID_INCHES = 2.0  # of one of three panels


def grid_of(
    width: Width, count: int, height: float = 1.75, *, sharex: bool = True, sharey: bool = True
) -> "tuple[Drawing, list[Axes]]":
    """A drawing with `count` axes, three in a row of a wide figure, one in a narrow one.

    With `sharex`, call `lowest_only` when they are drawn.
    """
    across = min(count, 3 if width == "two" else 1)
    down = math.ceil(count / across)
    drawing = new_drawing(width, 0.45 + height * down)
    grid = drawing.subplots(down, across, squeeze=False, sharex=sharex, sharey=sharey)
    for axes in grid.flat[count:]:
        axes.remove()
    return drawing, list(grid.flat[:count])


def lowest_only(grid: "Sequence[Axes]") -> None:
    """Words and numbers at x axes only where no other axes follow below."""
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


def class_lines(
    axes: "Axes", data: "pd.DataFrame", x: str, names: Sequence[str], scale: float = 1.0
) -> list[Any]:
    """A line of `value` over `x` for each class; the handles of a legend."""
    handles: list[Any] = []
    colours = class_colours(len(names))
    few = len(names) <= FEW_CLASSES
    for c, name in enumerate(names):
        own = data[data["class"] == name]
        handles += axes.plot(
            own[x],
            scale * own["value"],
            color=colours[c],
            ls=DASHES[c % 4] if few else "-",
            marker=MARKERS[c % len(MARKERS)] if few and len(own) <= 12 else None,
            ms=2.6,
            lw=0.9 if few else 0.4,
            clip_on=False,
        )
    return handles


def class_legend(
    drawing: "Drawing", handles: Sequence[Any], names: Sequence[str], more: Sequence[tuple[Any, str]] = ()
) -> None:
    """The classes where they can be told apart, and `more` handles with their words."""
    few = len(names) <= FEW_CLASSES
    shown_handles = [handle for handle, _ in more] + (list(handles) if few else list(handles[:1]))
    words = [word for _, word in more] + ([shown(name) for name in names] if few else ["one class"])
    legend(drawing, shown_handles, words)


def band(axes: "Axes", rows: "pd.DataFrame", x: str, look: EntryStyle, scale: float = 1.0) -> Any:
    """The mean over seeds as a line, their range as a band; the line."""
    often = max(1, len(rows) // 6)
    (line,) = axes.plot(
        rows[x],
        scale * rows["value"],
        color=look.colour,
        ls=look.dash,
        marker=look.marker,
        markevery=often,
        ms=3,
        mec="white",
        mew=0.3,
    )
    axes.fill_between(rows[x], scale * rows["low"], scale * rows["high"], color=look.colour, alpha=0.18, lw=0)
    return line


def whole_numbers(axes: "Axes") -> None:
    """Ticks at whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
