"""Training curves: the loss, and the average and worst class on training images, epoch by epoch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns
from fairbench.figures.drawing import band, entry_legend, label_lowest, small_panels, whole_number_ticks
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.figures.panels import key_of
from fairbench.figures.style import EntryStyle, Width, entry_styles
from fairbench.metrics.classwise import balanced_accuracy, worst_class_accuracy
from fairbench.records.curves import finite_numbers
from fairbench.records.read import Record
from fairbench.records.run_folder import RunFolder
from fairbench.tables.captions import title
from fairbench.tables.columns import SIDES
from fairbench.tables.entries import Entry, tail_fraction
from fairbench.tables.inventory import TableSpec

QUANTITIES = ("loss", "average", "worst")


def curves_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """The loss beside average and worst accuracy on training images, robust unless clean is asked for."""
    side = options.side or "robust"
    data = curves_data(spec)
    if data.empty:
        raise NothingToDrawError(
            "these runs have no training curves: their folders hold results only.",
            hint="copy the whole run folders, or train: fairbench run",
        )
    return Figure(
        key_of(spec), data, draw(data, side, options.width or "two"), curves_caption(spec, data, side)
    )


def curves_caption(spec: TableSpec, data: pd.DataFrame, side: str) -> str:
    """The setting, the seeds, and what is measured on which images."""
    seeds = ", ".join(f"{entry.label} {len(entry.seeds)}" for entry in spec.entries)
    under = "under the method's own training attack" if side == "robust" else "without attack"
    fraction = tail_fraction(spec.num_classes)
    lowest = "lowest class" if fraction is None else f"mean over the lowest {100 * fraction:.0f} % of classes"
    caption = (
        f"{title(spec.setting, None, ('training',))}. Lines are means over seeds ({seeds}), bands their "
        "range. Losses of different methods are not comparable. Accuracies are measured on the training "
        f"images of each epoch while it trains, {under}; average is the mean over classes, worst the "
        f"{lowest} of each epoch."
    )
    if ((data["images"] == "test") & (data["side"] == side)).any():
        attack = f" under {spec.attack.name}" if spec.attack is not None and side == "robust" else ""
        caption += f" Hollow marks are the evaluated checkpoints on test images{attack}."
    return caption


def curves_data(spec: TableSpec) -> pd.DataFrame:
    """One row per method, kind of images, side, quantity and epoch; value, low, high over seeds.

    Empty when no run has a training curve.
    """
    rows = []
    for entry in spec.entries:
        points: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
        for seed in entry.seeds.values():
            for row in RunFolder(seed.record.folder).curve_of(seed.record):
                for side, quantity, value in training_values(row, seed.record):
                    points[("train", side, quantity, row["epoch"])].append(value)
        for side in SIDES if spec.attack is not None else ("clean",):
            for quantity, epoch, value in checkpoint_values(entry, side):
                points[("test", side, quantity, epoch)].append(value)
        rows += [
            {
                **entry_columns(spec, entry),
                "images": images,
                "side": side,
                "quantity": quantity,
                "epoch": epoch,
                "value": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
            }
            for (images, side, quantity, epoch), values in sorted(points.items())
        ]
    return pd.DataFrame(rows if any(row["images"] == "train" for row in rows) else [])


def training_values(row: Mapping[str, Any], record: Record) -> Iterator[tuple[str, str, float]]:
    """(side, quantity, value) on training images of one epoch; the loss has the side ""."""
    loss = finite_numbers([row.get("loss")])
    if loss is not None:
        yield "", "loss", float(loss[0])
    for side in SIDES:
        accuracy = finite_numbers(row.get(f"train_{side}_accuracy"))
        if accuracy is not None and len(accuracy) == record.num_classes:
            for quantity, value in average_and_worst(np.array(accuracy)):
                yield side, quantity, value


def checkpoint_values(entry: Entry, side: str) -> Iterator[tuple[str, int, float]]:
    """(quantity, epoch, value) on test images of each seed with several checkpoints."""
    for number, numbers in entry.sides(side).items():
        epochs = entry.seeds[number].epochs
        if len(epochs) < 2:
            continue
        for epoch, by_class in zip(epochs, numbers.class_accuracy, strict=True):
            for quantity, value in average_and_worst(by_class):
                yield quantity, epoch, value


def average_and_worst(accuracy: np.ndarray) -> tuple[tuple[str, float], tuple[str, float]]:
    """The mean of class accuracies (C,), and the worst as tables define it for so many classes."""
    worst = worst_class_accuracy(accuracy, tail_fraction(len(accuracy)))
    return ("average", float(balanced_accuracy(accuracy))), ("worst", float(worst))


def draw(data: pd.DataFrame, side: str, width: Width) -> Drawing:
    """Loss, average and worst beside each other."""
    drawing, grid = small_panels(width, len(QUANTITIES), sharey=False)
    styles = entry_styles(data)
    labels = ("training loss", f"average, {side} (%)", f"worst class, {side} (%)")
    for axes, quantity, label in zip(grid, QUANTITIES, labels, strict=True):
        rows = data[(data["quantity"] == quantity) & data["side"].isin(["", side])]
        handles = [
            draw_entry(axes, rows[rows["entry"] == entry], style, 1.0 if quantity == "loss" else 100.0)
            for entry, style in styles.items()
        ]
        axes.set(xlabel="epoch", ylabel=label)
        whole_number_ticks(axes)
        if quantity != "loss":
            axes.set_ylim(0, 100)
    label_lowest(grid)
    entry_legend(drawing, handles, styles)
    return drawing


def draw_entry(axes: Axes, rows: pd.DataFrame, style: EntryStyle, scale: float) -> Any:
    """A band over the epochs and hollow marks at the checkpoints; the line."""
    line = band(axes, rows[rows["images"] == "train"], "epoch", style, scale)
    tested = rows[rows["images"] == "test"]
    axes.plot(
        tested["epoch"],
        scale * tested["value"],
        style.marker,
        mec=style.colour,
        mfc="white",
        mew=0.8,
        ms=4.5,
        ls="",
    )
    return line
