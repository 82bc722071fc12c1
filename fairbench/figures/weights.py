"""What a method logs per class while it trains (weights, margins, radii): one line per class."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns, stacked_frame
from fairbench.figures.drawing import (
    PANEL_INCHES,
    class_legend,
    class_lines,
    label_lowest,
    small_panels,
    whole_number_ticks,
)
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.figures.panels import class_names, key_of
from fairbench.figures.style import Width, entry_styles, fit, printable
from fairbench.records.curves import finite_numbers
from fairbench.records.run_folder import RunFolder
from fairbench.tables.captions import title
from fairbench.tables.entries import Entry
from fairbench.tables.inventory import TableSpec


def weights_figure(spec: TableSpec, options: FigureOptions) -> Figure:
    """Each vector of one value per class that a method logged, over the epochs."""
    data = weights_data(spec)
    if data.empty:
        methods = ", ".join(entry.label for entry in spec.entries)
        raise NothingToDrawError(
            f"no method here logged a value per class: {methods}.",
            hint="run methods that adapt to classes: fairbench run --methods dafa,trix,cfa,fairtat,frl,wat",
        )
    counts = data[["entry", "seeds"]].drop_duplicates().itertuples(index=False)
    seeds = ", ".join(f"{entry} {count}" for entry, count in counts)
    caption = (
        f"{title(spec.setting, None, ('training',))}. The values per class that each method logged in an "
        f"epoch: one line per class, the mean over seeds ({seeds})."
    )
    return Figure(key_of(spec), data, draw(data, options.width or "two"), caption)


def weights_data(spec: TableSpec) -> pd.DataFrame:
    """One row per method, logged name, epoch and class; value, low and high over seeds."""
    parts = []
    for entry in spec.entries:
        for (name, epoch), vectors in sorted(logged_vectors(entry).items()):
            stack = np.stack(vectors)  # (S, C)
            parts.append(
                {
                    **entry_columns(spec, entry),
                    "seeds": len(vectors),
                    "name": name,
                    "epoch": epoch,
                    "class": class_names(spec),
                    "value": stack.mean(0),
                    "low": stack.min(0),
                    "high": stack.max(0),
                }
            )
    return stacked_frame(parts)


def logged_vectors(entry: Entry) -> dict[tuple[str, int], list[np.ndarray]]:
    """The vectors (C,) of each seed by logged name and epoch."""
    vectors: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for seed in entry.seeds.values():
        for row in RunFolder(seed.record.folder).curve_of(seed.record):
            logged = row.get("logged")
            for name, values in logged.items() if isinstance(logged, Mapping) else ():
                numbers = finite_numbers(values)
                if numbers is not None and len(numbers) == seed.record.num_classes:
                    vectors[(str(name), row["epoch"])].append(np.array(numbers))
    return vectors


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A panel for each method and logged name."""
    panels = list(data[["entry", "name"]].drop_duplicates().itertuples(index=False))
    drawing, grid = small_panels(width, len(panels), sharey=False)
    styles, names = entry_styles(data), list(data["class"].unique())
    handles: list[Any] = []
    for axes, (entry, name) in zip(grid, panels, strict=True):
        rows = data[(data["entry"] == entry) & (data["name"] == name)]
        handles = class_lines(axes, rows, "epoch", names)
        whole_number_ticks(axes)
        axes.set(
            xlabel="epoch",
            ylabel=printable(name.replace("_", " ")),
            title=fit(styles[entry].title, PANEL_INCHES),
        )
    label_lowest(grid)
    class_legend(drawing, handles, names)
    return drawing
