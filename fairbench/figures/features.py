"""Where the network sees images of two classes, without attack and under it: a plane through its features."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.figures.figure import Figure, NothingToDrawError, Options
from fairbench.figures.lines import GRID_INCHES, grid_of
from fairbench.figures.numbers import entry_columns, place_columns
from fairbench.figures.panels import Panel, panels
from fairbench.figures.style import Width, fit, legend, looks, shown
from fairbench.metrics.projection import Projection
from fairbench.records.read import Record
from fairbench.tables.captions import describe_attack, title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

USUAL = ("cat", "horse")
_COLOURS = ("#0072B2", "#D55E00")


Project = Callable[[Record, Sequence[int], str, str], Projection]
"""From a record, two classes, and an attack's name and id."""


def features_figures(
    records: Iterable[Record], options: Options, project: Project, classes: Sequence[str] = ()
) -> list[Figure]:
    """A figure for each setting and PGD attack. Raises ConfigError where an attack has to be chosen."""
    found = [
        panel
        for panel in panels(records, options)
        if panel.attack and '"kind":"pgd"' in panel.attack.settings
    ]
    if not found:
        raise NothingToDrawError(
            "no run here was attacked by PGD" + (f" as {options.attack}." if options.attack else "."),
            hint="add it: fairbench run --attacks pgd-20 with the options of the run",
        )
    names = sorted({panel.place.attack for panel in found})
    if len({panel.spec.setting.key.digest for panel in found}) < len(found):
        raise ConfigError(
            f"these runs have {len(names)} PGD attacks, and each has to be run again for its images.",
            hint=f"choose one: --attack {' or '.join(names)}",
        )
    return [_figure(panel, options, project, classes) for panel in found]


def _figure(panel: Panel, options: Options, project: Project, classes: Sequence[str]) -> Figure:
    pair = chosen_classes(panel.class_names, classes)
    data = features_data(panel, project, pair)
    seeds = {int(seed) for seed in data["seed"].unique()}
    count = len(data[(data["entry"] == data["entry"].iloc[0]) & ~data["adversarial"]])
    words = (
        f"{title(panel.spec.setting, panel.attack)}; {describe_attack(panel.attack)}. Features "
        f"before the last layer of one network per method (seed {', '.join(map(str, sorted(seeds)))}, last "
        f"checkpoint), of {count} test images of {' and '.join(panel.class_names[c] for c in pair)}, each "
        "without attack and under it, in the plane of the first two principal components of both together. "
        "The planes of different networks are different planes; the axes say how much of the variance they "
        "hold, and have one scale."
    )
    return Figure(panel.place, data, draw(data, options.width or "two"), words)


def chosen_classes(names: Sequence[str], asked: Sequence[str]) -> tuple[int, int]:
    """Positions of the two classes: those asked for, else cat and horse, else the first two.

    Raises UnknownNameError for a class that the data set lacks, ConfigError unless they are two.
    """
    for name in asked:
        if name not in names:
            raise UnknownNameError("class", name, names, asked_by=f"--classes {','.join(asked)}")
    if asked and len(set(asked)) != 2:
        raise ConfigError(f"--classes {','.join(asked)}: two different classes are needed.")
    wanted = tuple(asked) or (USUAL if set(USUAL) <= set(names) else tuple(names[:2]))
    if len(wanted) != 2:
        raise ConfigError("features of two classes need a data set with two.")
    first, second = (names.index(name) for name in wanted)
    return first, second


def features_data(panel: Panel, project: Project, classes: tuple[int, int]) -> "pd.DataFrame":
    """One row per method and image, clean and adversarial; `x`, `y` in the plane."""
    import pandas as pd

    assert panel.attack is not None
    names = np.array(panel.class_names, dtype=object)
    frames = []
    for entry in panel.entries:
        number, seed = min(entry.seeds.items())
        found = project(seed.record, classes, panel.attack.name, seed.record.attack_ids[panel.attack])
        order = np.lexsort((found.image, found.label == classes[1], found.adversarial))
        columns: dict[str, Any] = {
            **place_columns(panel),
            **entry_columns(entry),
            "seeds": 1,
            "seed": number,
            "image": found.image[order],
            "class": names[found.label[order]],
            "predicted": names[found.prediction[order]],
            "adversarial": found.adversarial[order],
            "x": found.point[order, 0],
            "y": found.point[order, 1],
            "x_explained": found.explained[0],
            "y_explained": found.explained[1],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """A panel per method: circles without attack, crosses under it; one colour per class."""
    found = looks(data)
    drawing, grid = grid_of(width, len(found), height=1.8, sharex=False, sharey=False)
    names = list(data["class"].unique())
    handles: list[Any] = []
    for axes, (entry, look) in zip(grid, found.items(), strict=True):
        handles = []
        for name, colour in zip(names, _COLOURS, strict=True):
            for adversarial in (False, True):
                own = data[
                    (data["entry"] == entry) & (data["class"] == name) & (data["adversarial"] == adversarial)
                ]
                how: dict[str, Any] = {"marker": "o", "lw": 0, "alpha": 0.4}
                if adversarial:
                    how = {"marker": "x", "lw": 0.7, "alpha": 0.9}
                handles.append(axes.scatter(own["x"], own["y"], 9, colour, **how))
        row = data[data["entry"] == entry].iloc[0]
        axes.set(
            title=fit(look.title, GRID_INCHES),
            xlabel=f"component 1 ({100 * row['x_explained']:.0f} %)",
            ylabel=f"component 2 ({100 * row['y_explained']:.0f} %)",
            xticks=[],
            yticks=[],
        )
        axes.set_aspect("equal", adjustable="datalim")
    words = [f"{shown(name)}, {state}" for name in names for state in ("clean", "attacked")]
    legend(drawing, handles, words)
    return drawing
