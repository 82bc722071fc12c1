"""Robust accuracy over the radius of the attack: each class, average and worst, a panel per method."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from fairbench.core.identity import canonical_json
from fairbench.figures.data_rows import class_rows, entry_columns
from fairbench.figures.drawing import PANEL_INCHES, class_legend, class_lines, label_lowest, small_panels
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.figures.panels import inventory_of, key_of, table_caption
from fairbench.figures.style import INK, Width, entry_styles, fit
from fairbench.records.read import AttackKey, Record
from fairbench.tables.inventory import TableSpec

MEASURES = ("average", "worst")


def eps_figures(records: Iterable[Record], options: FigureOptions) -> list[Figure]:
    """A figure for each sweep over the radius."""
    return [eps_figure(sweep, options) for sweep in sweeps(records, options)]


def sweeps(records: Iterable[Record], options: FigureOptions) -> list[list[TableSpec]]:
    """The sweeps: panels of one setting under attacks that differ in the radius alone, by ascending radius.

    Raises NothingToDrawError when no sweep has two radii.
    """
    inventory = inventory_of(records, options)
    chosen = []
    for setting in inventory.settings:
        for family in families(setting.attacks):
            if options.attack not in (None, *(attack.name for attack in family)):
                continue
            sweep = [spec for attack in family if (spec := inventory.spec(setting, attack)).entries]
            if len({radius(spec.attack) for spec in sweep}) > 1:
                chosen.append(sweep)
    if not chosen:
        raise NothingToDrawError(
            "no run here was attacked at several radii by otherwise the same attack.",
            hint="run: fairbench run --suite figure3, or the run's own options with --attacks\n"
            "pgd-20-eps2@last,pgd-20-eps4@last,... (digits: pgd-20-digits-eps050@last,...)",
        )
    return chosen


def families(attacks: Sequence[AttackKey]) -> list[list[AttackKey]]:
    """Attacks that differ only in radius, and in a step that scales with it; each by ascending radius."""
    by_rest: dict[str, list[AttackKey]] = defaultdict(list)
    for attack in attacks:
        settings = json.loads(attack.settings)
        eps, step = settings.pop("eps", None), settings.pop("step_size", None)
        if isinstance(eps, int | float) and eps > 0:
            ratio = None if step is None else round(step / eps, 6)
            by_rest[canonical_json([settings, ratio])].append(attack)
    return [sorted(family, key=radius) for _, family in sorted(by_rest.items())]


def radius(attack: AttackKey | None) -> float:
    """The radius of an attack; 0 for None."""
    return 0.0 if attack is None else float(json.loads(attack.settings)["eps"])


def eps_figure(sweep: Sequence[TableSpec], options: FigureOptions) -> Figure:
    """Accuracy over the radius; 0 is no attack."""
    data = eps_data(sweep)
    last = sweep[-1]
    assert last.attack is not None
    settings = json.loads(last.attack.settings)
    step = settings.get("step_size")
    scaled = f", with a step of {step / settings['eps']:.4g} of the radius" if step is not None else ""
    radii = ", ".join(f"{radius(spec.attack):.6g}" for spec in sweep)
    caption = (
        f"{table_caption(last, ('robust',), MEASURES, options)} The same attack at radii {radii}{scaled}; "
        "radius 0 is no attack. Thin lines are classes."
    )
    key = key_of(last)
    return Figure(
        replace(key, attack=f"{key.attack}-sweep"), data, draw(data, options.width or "two"), caption
    )


def eps_data(sweep: Sequence[TableSpec]) -> pd.DataFrame:
    """One row per method, radius and class, average or worst (`kind`)."""
    rows = []
    with_clean: set[str] = set()  # entries whose clean accuracies are in a row already
    for spec in sweep:
        for entry in spec.entries:
            head = entry_columns(spec, entry)
            if entry.key not in with_clean:
                with_clean.add(entry.key)
                rows += class_rows(spec, entry, "clean", MEASURES, {**head, "eps": 0.0, "attack": "clean"})
            rows += class_rows(spec, entry, "robust", MEASURES, {**head, "eps": radius(spec.attack)})
    frame = pd.DataFrame(rows)
    order = {entry: k for k, entry in enumerate(frame["entry"].unique())}
    return frame.sort_values(
        ["entry", "eps"], key=lambda c: c.map(order) if c.name == "entry" else c, kind="stable"
    )


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A panel per method: thin lines per class, bold ones for average and worst."""
    styles = entry_styles(data)
    drawing, grid = small_panels(width, len(styles), height=2.0)
    names = list(data[data["kind"] == "class"]["class"].unique())
    handles: list[Any] = []
    bold: list[Any] = []
    for axes, (entry, style) in zip(grid, styles.items(), strict=True):
        rows = data[data["entry"] == entry]
        handles = class_lines(axes, rows[rows["kind"] == "class"], "eps", names, scale=100)
        bold = []
        for name, dash in (("average", "-"), ("worst", (0, (3, 1.5)))):
            own = rows[rows["kind"] == name]
            (line,) = axes.plot(
                own["eps"], 100 * own["value"], color=INK, lw=1.8, ls=dash, clip_on=False, zorder=3
            )
            bold.append((line, name))
        axes.set(ylim=(0, 100), xlabel="radius", title=fit(style.title, PANEL_INCHES))
        axes.margins(x=0.03)
        radius_ticks(axes, data["eps"])
    grid[0].set_ylabel("accuracy (%)")
    label_lowest(grid)
    class_legend(drawing, handles, names, bold)
    return drawing


def radius_ticks(axes: Axes, radii: "pd.Series[float]") -> None:
    """Ticks at the radii that are far enough apart; in 255ths where all are whole grey levels."""
    ordered = sorted(set(radii))
    ticks: list[float] = []
    for value in ordered:
        if not ticks or value - ticks[-1] >= 0.14 * ordered[-1] or value == 0:
            ticks.append(value)
    if all(abs(255 * value - round(255 * value)) < 1e-6 for value in ordered):
        axes.set_xticks(ticks, [f"{round(255 * value)}" for value in ticks])
        axes.set_xlabel("radius (/255)")
    else:
        axes.set_xticks(ticks, [f"{value:.3g}" for value in ticks])
