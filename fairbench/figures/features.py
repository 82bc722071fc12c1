"""The features of images of two classes, without attack and under it, projected on a plane."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.figures.data_rows import entry_columns, stacked_frame
from fairbench.figures.drawing import PANEL_INCHES, legend, small_panels
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.figures.panels import class_names, key_of, panels
from fairbench.figures.style import Width, entry_styles, figure_style, fit, printable
from fairbench.metrics.projection import Projection
from fairbench.records.read import Record
from fairbench.tables.captions import title
from fairbench.tables.description import describe_attack
from fairbench.tables.inventory import TableSpec

DEFAULT_CLASSES = ("cat", "horse")  # those of the TRIX paper
_COLOURS = ("#0072B2", "#D55E00")
_MARKS: tuple[dict[str, Any], ...] = (  # without attack, under it
    {"marker": "o", "lw": 0, "alpha": 0.4},
    {"marker": "x", "lw": 0.7, "alpha": 0.9},
)

Project = Callable[[Record, Sequence[int], str, str], Projection]
"""Takes a record, two classes, and the name and the id of an attack."""


def features_figures(
    records: Iterable[Record], options: FigureOptions, project: Project, classes: Sequence[str] = ()
) -> list[Figure]:
    """A figure for each setting under its PGD attack. Raises ConfigError where a setting has several."""
    specs = [
        spec for spec in panels(records, options) if spec.attack and '"kind":"pgd"' in spec.attack.settings
    ]
    if not specs:
        raise NothingToDrawError(
            "no run here was attacked by PGD" + (f" as {options.attack}." if options.attack else "."),
            hint="add it: fairbench run --attacks pgd-20 with the options of the run",
        )
    names = sorted({key_of(spec).attack for spec in specs})
    if len({spec.setting for spec in specs}) < len(specs):
        raise ConfigError(
            f"these runs have {len(names)} PGD attacks, and each has to be run again for its images.",
            hint=f"choose one: --attacks {' or '.join(names)}",
        )
    with figure_style():
        return [_figure(spec, options, project, classes) for spec in specs]


def _figure(spec: TableSpec, options: FigureOptions, project: Project, classes: Sequence[str]) -> Figure:
    names = class_names(spec)
    pair = chosen_classes(names, classes)
    data = features_data(spec, project, pair)
    seeds = ", ".join(str(seed) for seed in sorted({int(seed) for seed in data["seed"].unique()}))
    count = len(data[(data["entry"] == data["entry"].iloc[0]) & ~data["adversarial"]])
    caption = (
        f"{title(spec.setting, spec.attack)}; {describe_attack(spec.attack)}. Features before the last layer "
        f"of one network per method (seed {seeds}, last checkpoint), of {count} test images of "
        f"{' and '.join(names[c] for c in pair)}, each without attack and under it, projected on the first "
        "two principal components of both together. Each network has its own components. The axes have one "
        "scale, and in brackets the share of the variance along them."
    )
    return Figure(key_of(spec), data, draw(data, options.width or "two"), caption)


def chosen_classes(names: Sequence[str], chosen: Sequence[str]) -> tuple[int, int]:
    """Positions of the two classes: those `chosen`, else cat and horse, else the first two.

    Raises UnknownNameError for a class that the data set lacks, ConfigError unless they are two.
    """
    for name in chosen:
        if name not in names:
            raise UnknownNameError("class", name, names, asked_by=f"--classes {','.join(chosen)}")
    if chosen and len(set(chosen)) != 2:
        raise ConfigError(f"--classes {','.join(chosen)}: two different classes are needed.")
    default = DEFAULT_CLASSES if set(DEFAULT_CLASSES) <= set(names) else tuple(names[:2])
    pair = tuple(chosen) or default
    if len(pair) != 2:
        raise ConfigError("features of two classes need a data set with two.")
    first, second = (names.index(name) for name in pair)
    return first, second


def features_data(spec: TableSpec, project: Project, classes: tuple[int, int]) -> pd.DataFrame:
    """One row per method and image, clean and adversarial; `x`, `y` in the plane."""
    assert spec.attack is not None
    names = np.array(class_names(spec), dtype=object)
    parts = []
    for entry in spec.entries:
        number, seed = min(entry.seeds.items())
        points = project(seed.record, classes, spec.attack.name, seed.record.attack_ids[spec.attack])
        order = np.lexsort((points.image, points.label == classes[1], points.adversarial))
        parts.append(
            {
                **entry_columns(spec, entry),
                "seeds": 1,
                "seed": number,
                "image": points.image[order],
                "class": names[points.label[order]],
                "predicted": names[points.prediction[order]],
                "adversarial": points.adversarial[order],
                "x": points.point[order, 0],
                "y": points.point[order, 1],
                "x_explained": points.explained[0],
                "y_explained": points.explained[1],
            }
        )
    return stacked_frame(parts)


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A panel per method: circles without attack, crosses under it; one colour per class."""
    styles = entry_styles(data)
    drawing, grid = small_panels(width, len(styles), height=1.8, sharex=False, sharey=False)
    names = list(data["class"].unique())
    handles: list[Any] = []
    for axes, (entry, style) in zip(grid, styles.items(), strict=True):
        rows = data[data["entry"] == entry]
        handles = []
        for name, colour in zip(names, _COLOURS, strict=True):
            for adversarial, mark in enumerate(_MARKS):
                own = rows[(rows["class"] == name) & (rows["adversarial"] == bool(adversarial))]
                handles.append(axes.scatter(own["x"], own["y"], 9, colour, **mark))
        axes.set(
            title=fit(style.title, PANEL_INCHES),
            xlabel=f"component 1 ({100 * rows['x_explained'].iloc[0]:.0f} %)",
            ylabel=f"component 2 ({100 * rows['y_explained'].iloc[0]:.0f} %)",
            xticks=[],
            yticks=[],
        )
        axes.set_aspect("equal", adjustable="datalim")
    legend(drawing, handles, [f"{printable(name)}, {how}" for name in names for how in ("clean", "attacked")])
    return drawing
