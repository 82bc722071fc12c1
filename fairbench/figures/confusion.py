"""The predicted classes of the images of each class, as a matrix per method: rows are the true classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns, stacked_frame
from fairbench.figures.drawing import keep_first, label_lowest, new_drawing
from fairbench.figures.figure import Figure, FigureOptions
from fairbench.figures.panels import class_names, key_of, sides_of, table_caption
from fairbench.figures.style import (
    FEW_CLASSES,
    FONT_SIZE,
    INCHES,
    INK,
    NAME_INCHES,
    Width,
    entry_styles,
    fit,
    printable,
)
from fairbench.metrics.confusion import confusion_shares
from fairbench.records.read import AttackKey
from fairbench.tables.entries import Entry
from fairbench.tables.evidence import outcomes_under
from fairbench.tables.inventory import TableSpec


def confusion_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """A matrix per method, robust unless clean is asked for. Raises RecordError for missing outcomes."""
    side = sides_of(spec, options)[-1]
    data = confusion_data(spec, side)
    under = "under the attack" if side == "robust" else "without attack"
    caption = (
        f"{table_caption(spec, (side,), ('average',), options)} Each row shows the predicted classes of the "
        f"images of one true class {under}, in percent; the diagonal is the class accuracy."
    )
    return Figure(key_of(spec), data, draw(data, options.width or "two"), caption)


def confusion_data(spec: TableSpec, side: str) -> pd.DataFrame:
    """One row per method, true class and predicted class; `value` is the share of the true class's images."""
    names = class_names(spec)
    attack = None if side == "clean" else spec.attack
    return stacked_frame(
        {
            **entry_columns(spec, entry),
            "side": side,
            "class": np.repeat(names, len(names)),
            "predicted": np.tile(names, len(names)),
            "value": confusion_matrix(entry, attack).ravel(),
        }
        for entry in spec.entries
    )


def confusion_matrix(entry: Entry, attack: AttackKey | None) -> np.ndarray:
    """(C, C) shares of each true class: the mean over checkpoints, then over seeds."""
    seeds = []
    for seed in entry.seeds.values():
        rows = [outcomes_under(seed.record, attack, epoch) for epoch in seed.epochs]
        size = seed.record.num_classes
        epochs = [confusion_shares(row["label"], row["prediction"], size) for row in rows]
        seeds.append(np.mean(epochs, axis=0))
    return np.asarray(np.mean(seeds, axis=0))


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A panel per method; numbers in the squares where the classes are few, else a scale of colours."""
    styles = entry_styles(data)
    names = list(data["class"].unique())
    few = len(names) <= FEW_CLASSES
    most = 1 if width == "one" else 2 if len(styles) in (1, 2, 4) else 3
    across = min(len(styles), most)
    down = math.ceil(len(styles) / across)
    # 0.055: about the inches of a character of the smaller names; 0.6: those of the scale of colours.
    room = min(max(map(len, names)) * 0.055, NAME_INCHES) if few else 0.35
    inches = (INCHES[width] - room - (0.05 if few else 0.6)) / most - 0.08
    drawing = new_drawing(width, down * (inches + 0.25) + room + 0.2)
    grid = keep_first(drawing.subplots(down, across, squeeze=False, sharex=True, sharey=True), len(styles))
    for axes, (entry, style) in zip(grid, styles.items(), strict=True):
        percent = 100 * data[data["entry"] == entry]["value"].to_numpy().reshape(len(names), len(names))
        image = draw_matrix(axes, percent)
        axes.set_title(fit(style.title, inches))
        if few:
            label_squares(axes, percent, names, inches)
        else:
            axes.set_xlabel("predicted class")
    label_lowest(grid)
    if not few:
        grid[0].set_ylabel("true class")
        bar = drawing.colorbar(image, ax=grid, ticks=[0, 5, 20, 50, 100], shrink=0.6, aspect=30, pad=0.01)
        bar.outline.set_visible(False)
        bar.set_label("share of the true class (%)")
    return drawing


def draw_matrix(axes: Axes, percent: np.ndarray) -> Any:
    """Squares, darker for more; the image."""
    image = axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return image


def label_squares(axes: Axes, percent: np.ndarray, names: Sequence[str], inches: float) -> None:
    """Class names at both axes of a matrix that is `inches` wide, and a number in each square above 0."""
    labels = [fit(printable(name), NAME_INCHES) for name in names]
    size = min(FONT_SIZE - 1, 72 * inches / len(names) * 0.34)
    turned = max(map(len, labels)) > 3
    axes.set_xticks(range(len(names)), labels, rotation=90 if turned else 0, fontsize=max(size, 5))
    axes.set_yticks(range(len(names)), labels, fontsize=max(size, 5))
    for (row, column), value in np.ndenumerate(percent):
        if round(value) > 0:
            colour = "white" if value > 45 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=colour)
