"""Training curves: the loss, and the mean and worst class on training images, epoch by epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.figures.figure import Figure, NothingToDrawError, Options
from fairbench.figures.lines import band, grid_of, lowest_only, whole_numbers
from fairbench.figures.numbers import entry_columns, place_columns
from fairbench.figures.panels import Panel
from fairbench.figures.style import Width, legend, looks
from fairbench.metrics.classwise import balanced_accuracy, worst_class_accuracy
from fairbench.records.curves import read_epochs
from fairbench.records.read import Record
from fairbench.tables.captions import title
from fairbench.tables.entries import Entry, tail_fraction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

SIDES = ("clean", "robust")
QUANTITIES = ("loss", "average", "worst")


def curves_figure(panel: Panel, options: Options) -> Figure:
    """The loss beside mean and worst accuracy on training images, robust unless clean is asked for."""
    side = options.side or "robust"
    data = curves_data(panel)
    if data.empty:
        raise NothingToDrawError(
            "these runs have no epochs.jsonl: their folders hold results without training curves.",
            hint="copy the whole run folders, or train: fairbench run",
        )
    seeds = ", ".join(f"{entry.label} {len(entry.seeds)}" for entry in panel.entries)
    how = "under the method's own adversary of training" if side == "robust" else "without attack"
    tested = data[(data["images"] == "test") & (data["side"] == side)]
    dots = (
        f" Hollow marks are the evaluated checkpoints on test images{_attacked(panel, side)}."
        if len(tested)
        else ""
    )
    words = (
        f"{title(panel.spec.setting, None, ('training',))}. Lines are the mean over seeds ({seeds}), "
        "bands their range. Losses of different methods are different quantities. Accuracies are those of "
        f"the training images of an epoch as they were trained on, {how}; average is the mean over classes, "
        f"worst the lowest class of each epoch.{dots}"
    )
    return Figure(panel.place, data, draw(data, side, options.width or "two"), words)


def _attacked(panel: Panel, side: str) -> str:
    return f" under {panel.attack.name}" if panel.attack is not None and side == "robust" else ""


def curves_data(panel: Panel) -> "pd.DataFrame":
    """One row per method, side, quantity, epoch and kind of images; value, low, high over seeds."""
    import pandas as pd

    rows = []
    for entry in panel.entries:
        found: dict[tuple[str, str, str, int], list[float]] = {}
        for seed in entry.seeds.values():
            for row in read_epochs(seed.record.folder):
                for (side, quantity), value in _quantities(row, seed.record):
                    found.setdefault(("train", side, quantity, row["epoch"]), []).append(value)
        for side in SIDES if panel.attack is not None else ("clean",):
            for key, value in _tested(entry, side):
                found.setdefault(("test", side, *key), []).append(value)
        rows += [
            {
                **place_columns(panel),
                **entry_columns(entry),
                "images": images,
                "side": side,
                "quantity": quantity,
                "epoch": epoch,
                "value": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
            }
            for (images, side, quantity, epoch), values in sorted(found.items())
        ]
    if not any(row["images"] == "train" for row in rows):
        return pd.DataFrame()
    return pd.DataFrame(rows)


def _quantities(row: Mapping[str, Any], record: Record) -> list[tuple[tuple[str, str], float]]:
    """What one epoch says: ((side, quantity), value)."""
    found: list[tuple[tuple[str, str], float]] = []
    if isinstance(loss := row.get("loss"), int | float):
        found.append((("", "loss"), float(loss)))
    for side in SIDES:
        values = row.get(f"train_{side}_accuracy")
        if isinstance(values, list) and len(values) == record.num_classes and None not in values:
            vector = np.array(values, dtype=np.float64)
            found += [((side, name), value) for name, value in _average_and_worst(vector)]
    return found


def _average_and_worst(accuracy: np.ndarray) -> list[tuple[str, float]]:
    """Mean of the class accuracies (C,), and the worst as tables define it for so many classes."""
    worst = worst_class_accuracy(accuracy, tail_fraction(len(accuracy)))
    return [("average", float(balanced_accuracy(accuracy))), ("worst", float(worst))]


def _tested(entry: Entry, side: str) -> list[tuple[tuple[str, int], float]]:
    """((quantity, epoch), value) of each seed at its checkpoints; nothing where there is only one."""
    found: list[tuple[tuple[str, int], float]] = []
    for number, numbers in entry.sides(side).items():
        epochs = entry.seeds[number].epochs
        if len(epochs) < 2:
            continue
        for epoch, by_class in zip(epochs, numbers.class_accuracy, strict=True):
            found += [((name, epoch), value) for name, value in _average_and_worst(by_class)]
    return found


def draw(data: "pd.DataFrame", side: str, width: Width) -> "Drawing":
    """Loss, average and worst beside each other."""
    drawing, grid = grid_of(width, len(QUANTITIES), sharey=False)
    handles: list[Any] = []
    for axes, quantity in zip(grid, QUANTITIES, strict=True):
        scale = 1.0 if quantity == "loss" else 100.0
        handles = []
        for entry, look in looks(data).items():
            own = data[(data["entry"] == entry) & (data["quantity"] == quantity)]
            trained = own[(own["images"] == "train") & own["side"].isin(["", side])]
            handles.append(band(axes, trained, "epoch", look, scale))
            tested = own[(own["images"] == "test") & (own["side"] == side)]
            axes.plot(
                tested["epoch"],
                scale * tested["value"],
                look.marker,
                mec=look.colour,
                mfc="white",
                mew=0.8,
                ms=4.5,
                ls="",
            )
        words = {
            "loss": "training loss",
            "average": f"average, {side} (%)",
            "worst": f"worst class, {side} (%)",
        }
        axes.set(xlabel="epoch", ylabel=words[quantity])
        whole_numbers(axes)
        if quantity != "loss":
            axes.set_ylim(0, 100)
    lowest_only(grid)
    legend(drawing, handles, [look.title for look in looks(data).values()])
    return drawing
