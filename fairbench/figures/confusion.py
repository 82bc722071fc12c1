"""Which class the images of each class are taken for, under attack: rows are the true classes."""

import math
from typing import TYPE_CHECKING

import numpy as np

from fairbench.figures.figure import Figure, Options
from fairbench.figures.lines import lowest_only
from fairbench.figures.numbers import FEW_CLASSES, entry_columns, place_columns
from fairbench.figures.panels import Panel
from fairbench.figures.style import INCHES, NAME_INCHES, SIZE, Width, fit, looks, new_drawing, shown
from fairbench.records.read import CLEAN
from fairbench.tables.entries import Entry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing


def confusion_figure(panel: Panel, options: Options) -> Figure:
    """A matrix per method, robust unless clean is asked for. Raises RecordError for missing outcomes."""
    side = options.side or panel.sides(options)[-1]
    sides = tuple(s for s in panel.sides(options) if s == side)
    data = confusion_data(panel, side)
    under = "under the attack" if side == "robust" else "without attack"
    words = (
        f"{panel.words(sides, ('average',), options)} Each row shows, in percent, what the images of one "
        f"class are taken for {under}; the diagonal is right."
    )
    return Figure(panel.place, data, draw(data, options.width or "two"), words)


def confusion_data(panel: Panel, side: str) -> "pd.DataFrame":
    """One row per method, true class and predicted class; `value` is the share of the true class's images."""
    import pandas as pd

    names = panel.class_names
    frames = []
    for entry in panel.entries:
        share = matrix(entry, panel, side)
        frames.append(
            pd.DataFrame(
                {
                    **place_columns(panel),
                    **entry_columns(entry),
                    "side": side,
                    "class": np.repeat(names, len(names)),
                    "predicted": np.tile(names, len(names)),
                    "value": share.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def matrix(entry: Entry, panel: Panel, side: str) -> np.ndarray:
    """(C, C) shares of each true class, the mean over checkpoints, then over seeds."""
    seeds = []
    for seed in entry.seeds.values():
        record, epochs = seed.record, []
        for epoch in seed.epochs:
            if side == "clean" or panel.attack is None:
                rows = record.outcomes(CLEAN, epoch)
            else:
                rows = record.outcomes(panel.attack.name, epoch, record.attack_ids[panel.attack])
            size = record.num_classes
            pairs = rows["label"].astype(np.int64) * size + rows["prediction"]
            count = np.bincount(pairs, minlength=size * size).reshape(size, size)
            epochs.append(count / count.sum(1, keepdims=True))
        seeds.append(np.mean(epochs, axis=0))
    return np.asarray(np.mean(seeds, axis=0))


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """Squares, darker where more; numbers in them where they fit."""
    from matplotlib.colors import PowerNorm

    found = looks(data)
    names = list(data["class"].unique())
    few = len(names) <= FEW_CLASSES
    most = 1 if width == "one" else 2 if len(found) in (1, 2, 4) else 3
    across = min(len(found), most)
    down = math.ceil(len(found) / across)
    room = min(max(map(len, names)) * 0.055, NAME_INCHES) if few else 0.35  # inches of names, about
    each = (INCHES[width] - room - (0.05 if few else 0.6)) / most - 0.08
    drawing = new_drawing(width, down * (each + 0.25) + room + 0.2)
    grid = drawing.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    image = None
    for axes in grid.flat[len(found) :]:
        axes.remove()
    for axes, (entry, look) in zip(grid.flat, found.items(), strict=False):
        share = 100 * data[data["entry"] == entry]["value"].to_numpy().reshape(len(names), len(names))
        image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
        axes.set_title(fit(look.title, each))
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        if not few:
            axes.set_xlabel("predicted class")
            grid[0, 0].set_ylabel("true class")
            continue
        labels = [fit(shown(name), NAME_INCHES) for name in names]
        size = min(SIZE - 1, 72 * each / len(names) * 0.34)
        turned = max(map(len, labels)) > 3
        axes.set_xticks(range(len(names)), labels, rotation=90 if turned else 0, fontsize=max(size, 5))
        axes.set_yticks(range(len(names)), labels, fontsize=max(size, 5))
        for (row, column), value in np.ndenumerate(share):
            if round(value) > 0:
                colour = "white" if value > 45 else "#222222"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=colour)
    lowest_only(list(grid.flat[: len(found)]))
    if image is not None and not few:
        bar = drawing.colorbar(
            image,
            ax=list(grid.flat[: len(found)]),
            ticks=[0, 5, 20, 50, 100],
            shrink=0.6,
            aspect=30,
            pad=0.01,
        )
        bar.outline.set_visible(False)
        bar.set_label("share of the true class (%)")
    return drawing
