"""What a method keeps per class while it trains: weights, margins, radii; one line per class."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.figures.figure import Figure, NothingToDrawError, Options
from fairbench.figures.lines import (
    GRID_INCHES,
    class_legend,
    class_lines,
    grid_of,
    lowest_only,
    whole_numbers,
)
from fairbench.figures.numbers import entry_columns, place_columns
from fairbench.figures.panels import Panel
from fairbench.figures.style import Width, fit, looks, shown
from fairbench.records.curves import read_epochs
from fairbench.tables.captions import title
from fairbench.tables.entries import Entry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing


def weights_figure(panel: Panel, options: Options) -> Figure:
    """Each vector of one value per class that a method logged, over the epochs."""
    data = weights_data(panel)
    if data.empty:
        raise NothingToDrawError(
            f"no method here logged a value per class: {', '.join(entry.label for entry in panel.entries)}.",
            hint="run methods that adapt to classes: fairbench run --methods dafa,trix,cfa,fairtat,frl,wat",
        )
    seeds = ", ".join(
        f"{entry} {n}" for entry, n in data[["entry", "seeds"]].drop_duplicates().itertuples(index=False)
    )
    words = (
        f"{title(panel.spec.setting, None, ('training',))}. What each method kept per class in an "
        f"epoch, one line per class, the mean over seeds ({seeds})."
    )
    return Figure(panel.place, data, draw(data, options.width or "two"), words)


def weights_data(panel: Panel) -> "pd.DataFrame":
    """One row per method, logged name, epoch and class; value, low and high over seeds."""
    import pandas as pd

    frames = []
    for entry in panel.entries:
        for (name, epoch), vectors in sorted(_logged(entry).items()):
            stack = np.stack(vectors)  # (S, C)
            frames.append(
                pd.DataFrame(
                    {
                        **place_columns(panel),
                        **entry_columns(entry),
                        "seeds": len(vectors),
                        "name": name,
                        "epoch": epoch,
                        "class": panel.class_names,
                        "value": stack.mean(0),
                        "low": stack.min(0),
                        "high": stack.max(0),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _logged(entry: Entry) -> dict[tuple[str, int], list[np.ndarray]]:
    """The vectors (C,) of each seed by name and epoch."""
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for seed in entry.seeds.values():
        for row in read_epochs(seed.record.folder):
            logged = row.get("logged")
            for name, values in logged.items() if isinstance(logged, Mapping) else ():
                if _is_vector(values, seed.record.num_classes):
                    found.setdefault((str(name), row["epoch"]), []).append(np.array(values, dtype=np.float64))
    return found


def _is_vector(values: Any, size: int) -> bool:
    return (
        isinstance(values, list) and len(values) == size and all(isinstance(v, int | float) for v in values)
    )


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """A panel for each method and name."""
    parts = list(data[["entry", "name"]].drop_duplicates().itertuples(index=False))
    drawing, grid = grid_of(width, len(parts), sharey=False)
    found, names = looks(data), list(data["class"].unique())
    handles: list[Any] = []
    for axes, (entry, name) in zip(grid, parts, strict=True):
        own = data[(data["entry"] == entry) & (data["name"] == name)]
        handles = class_lines(axes, own, "epoch", names)
        whole_numbers(axes)
        axes.set(
            xlabel="epoch", ylabel=shown(name.replace("_", " ")), title=fit(found[entry].title, GRID_INCHES)
        )
    lowest_only(grid)
    class_legend(drawing, handles, names)
    return drawing
