"""Robust accuracy over the radius: every class, the average and the worst, a panel per method."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairbench.core.identity import canonical_json
from fairbench.figures.figure import Figure, FigureKey, NothingToDrawError, Options
from fairbench.figures.lines import GRID_INCHES, class_legend, class_lines, grid_of, lowest_only
from fairbench.figures.numbers import entry_columns, limits, measured, place_columns
from fairbench.figures.panels import Panel, inventory
from fairbench.figures.style import INK, Width, fit, looks
from fairbench.records.read import AttackKey, Record
from fairbench.tables.by_class import class_cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

MEASURES = ("average", "worst")


@dataclass(frozen=True)
class Sweep:
    """Panels of one setting by ascending radius, under attacks that differ in nothing else."""

    panels: tuple[Panel, ...]
    radii: tuple[float, ...]


def eps_figures(records: Iterable[Record], options: Options) -> list[Figure]:
    """A figure for each sweep over the radius."""
    return [eps_figure(sweep, options) for sweep in sweeps(records, options)]


def sweeps(records: Iterable[Record], options: Options) -> list[Sweep]:
    """The sweeps of at least two radii. Raises NothingToDrawError when there is none."""
    found = []
    tables = inventory(records, options)
    for setting in tables.settings:
        for family in families(setting.attacks):
            if options.attack is not None and options.attack not in {attack.name for attack in family}:
                continue
            specs = [tables.spec(setting, attack) for attack in family]
            pairs = [(Panel(spec), radius(a)) for spec, a in zip(specs, family, strict=True) if spec.entries]
            if len({eps for _, eps in pairs}) > 1:
                found.append(Sweep(tuple(p for p, _ in pairs), tuple(eps for _, eps in pairs)))
    if not found:
        raise NothingToDrawError(
            "no run here was attacked at several radii by otherwise the same attack.",
            hint="run: fairbench run --suite figure3, or the run's own options with --attacks\n"
            "pgd-20-eps2@last,pgd-20-eps4@last,... (digits: pgd-20-digits-eps050@last,...)",
        )
    return found


def families(attacks: Sequence[AttackKey]) -> list[list[AttackKey]]:
    """Attacks that differ only in radius, and in a step that scales with it; each by ascending radius."""
    found: dict[str, list[AttackKey]] = defaultdict(list)
    for attack in attacks:
        settings = json.loads(attack.settings)
        eps, step = settings.pop("eps", None), settings.pop("step_size", None)
        if isinstance(eps, int | float) and eps > 0:
            ratio = None if step is None else round(step / eps, 6)
            found[canonical_json([settings, ratio])].append(attack)
    return [sorted(family, key=radius) for _, family in sorted(found.items())]


def radius(attack: AttackKey) -> float:
    return float(json.loads(attack.settings)["eps"])


def eps_figure(sweep: Sweep, options: Options) -> Figure:
    """Accuracy over the radius; 0 is no attack."""
    data = eps_data(sweep)
    last = sweep.panels[-1]
    assert last.attack is not None
    settings = json.loads(last.attack.settings)
    step = settings.get("step_size")
    scaled = f", the step {step / settings['eps']:.4g} of the radius" if step is not None else ""
    radii = ", ".join(f"{eps:.6g}" for eps in sweep.radii)
    words = (
        f"{last.words(('robust',), MEASURES, options)} The same attack at radii {radii}{scaled}; radius 0 is "
        "no attack. Thin lines are classes."
    )
    place = last.place
    name = f"{place.attack}-sweep"
    return Figure(
        FigureKey(place.dataset, place.model, place.protocol, name, place.variant),
        data,
        draw(data, options.width or "two"),
        words,
    )


def eps_data(sweep: Sweep) -> "pd.DataFrame":
    """One row per method, radius and class, average or worst (`kind`)."""
    import pandas as pd

    rows = []
    clean_of: set[str] = set()
    for panel, eps in zip(sweep.panels, sweep.radii, strict=True):
        for entry in panel.entries:
            sides = ["robust"] if entry.key in clean_of else ["clean", "robust"]
            clean_of.add(entry.key)
            for side in sides:
                head = {
                    **place_columns(panel),
                    **entry_columns(entry),
                    "eps": 0.0 if side == "clean" else eps,
                }
                if side == "clean":
                    head["attack"] = "clean"
                cells = [
                    ("class", n, c) for n, c in zip(panel.class_names, class_cells(entry, side), strict=True)
                ]
                cells += [(name, "", measured(entry, side, name)) for name in MEASURES]
                rows += [{**head, "kind": kind, "class": name, **limits(cell)} for kind, name, cell in cells]
    frame = pd.DataFrame(rows)
    order = {entry: k for k, entry in enumerate(frame["entry"].unique())}
    return frame.sort_values(
        ["entry", "eps"], key=lambda c: c.map(order) if c.name == "entry" else c, kind="stable"
    )


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """A panel per method: thin lines per class, bold ones for average and worst."""
    found = looks(data)
    drawing, grid = grid_of(width, len(found), height=2.0)
    names = list(data[data["kind"] == "class"]["class"].unique())
    handles: list[Any] = []
    bold: list[Any] = []
    for axes, (entry, look) in zip(grid, found.items(), strict=True):
        own = data[data["entry"] == entry]
        handles = class_lines(axes, own[own["kind"] == "class"], "eps", names, scale=100)
        bold = []
        for name, dash in (("average", "-"), ("worst", (0, (3, 1.5)))):
            rows = own[own["kind"] == name]
            (line,) = axes.plot(
                rows["eps"], 100 * rows["value"], color=INK, lw=1.8, ls=dash, clip_on=False, zorder=3
            )
            bold.append((line, name))
        axes.set(ylim=(0, 100), xlabel="radius", title=fit(look.title, GRID_INCHES))
        axes.margins(x=0.03)
        as_levels(axes, data["eps"])
    grid[0].set_ylabel("accuracy (%)")
    lowest_only(grid)
    class_legend(drawing, handles, names, bold)
    return drawing


def as_levels(axes: Any, radii: Any) -> None:
    """Ticks at the radii not too near to the one before, in 255ths where all are whole grey levels."""
    values: list[float] = []
    for value in sorted(set(radii)):
        if not values or value - values[-1] >= 0.14 * max(radii) or value == 0:
            values.append(value)
    levels = [255 * value for value in sorted(set(radii))]
    if all(abs(level - round(level)) < 1e-6 for level in levels):
        axes.set_xticks(values, [f"{round(255 * value)}" for value in values])
        axes.set_xlabel("radius (/255)")
    else:
        axes.set_xticks(values, [f"{value:.3g}" for value in values])
