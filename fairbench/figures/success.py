"""How often an attack succeeds per class: without targets beside the same attack with random targets."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import entry_columns, value_columns
from fairbench.figures.drawing import class_bars, legend, name_ticks, new_drawing, sorted_line, turned_height
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.figures.panels import class_names, inventory_of, key_of, table_caption
from fairbench.figures.style import FEW_CLASSES, INCHES, Width, entry_styles, printable
from fairbench.metrics.classwise import class_accuracy, class_hits
from fairbench.records.read import AttackKey, Record
from fairbench.tables.by_class import across_seeds, with_wilson
from fairbench.tables.description import describe_attack
from fairbench.tables.entries import Entry
from fairbench.tables.evidence import outcomes_under
from fairbench.tables.inventory import TableSpec
from fairbench.tables.table import TableCell

UNTARGETED, MOVED, REACHED = "untargeted", "targeted: wrong", "targeted: target reached"
_STYLES = {  # colour, hatch, dash
    UNTARGETED: ("#555555", "", "-"),
    MOVED: ("#56B4E9", "////", "--"),
    REACHED: ("#D55E00", "....", ":"),
}


def success_figures(records: Iterable[Record], options: FigureOptions) -> list[Figure]:
    """A figure for each targeted attack that was evaluated without targets too."""
    return [success_figure(*pair, options) for pair in attack_pairs(records, options)]


def attack_pairs(records: Iterable[Record], options: FigureOptions) -> list[tuple[TableSpec, TableSpec]]:
    """The panels of an attack without and with targets. Raises NothingToDrawError when there are none."""
    inventory = inventory_of(records, options)
    pairs = []
    for setting in inventory.settings:
        for targeted in setting.attacks:
            untargeted = without_targets(targeted, setting.attacks)
            if untargeted is None or options.attack not in (None, targeted.name, untargeted.name):
                continue
            pair = (inventory.spec(setting, untargeted), inventory.spec(setting, targeted))
            if all(spec.entries for spec in pair):
                pairs.append(pair)
    if not pairs:
        raise NothingToDrawError(
            "no run here was attacked with and without targets by otherwise the same attack.",
            hint="run: fairbench run --suite figure1, or the run's own options with\n"
            "--attacks pgd-20,pgd-20-targeted (digits: pgd-20-digits,pgd-20-digits-targeted)",
        )
    return pairs


def without_targets(targeted: AttackKey, attacks: Sequence[AttackKey]) -> AttackKey | None:
    """The attack with the settings of `targeted` but for its targets; None for one without targets."""
    settings = json.loads(targeted.settings)
    if settings.pop("target", None) is None:
        return None
    return next((attack for attack in attacks if json.loads(attack.settings) == settings), None)


def success_figure(untargeted: TableSpec, targeted: TableSpec, options: FigureOptions) -> Figure:
    """Three shares per class: wrong, wrong by the attack with targets, and taken for the target."""
    data = success_data(untargeted, targeted)
    caption = (
        f"{table_caption(untargeted, ('robust',), ('average',), options)} Beside it "
        f"{describe_attack(targeted.attack)}, whose target is one random wrong class for each image. Success "
        "is the share of the images classified correctly without attack that are wrong under it, or that are "
        "classified as the target. Whiskers are 95 % t intervals over seeds, for one seed 95 % Wilson "
        "intervals over these images."
    )
    return Figure(key_of(targeted), data, draw(data, options.width or "two"), caption)


def success_data(untargeted: TableSpec, targeted: TableSpec) -> pd.DataFrame:
    """One row per method, kind of success and class. Raises NothingToDrawError when no method has both."""
    rows: list[dict[str, Any]] = []
    with_targets = {entry.key: entry for entry in targeted.entries}
    for entry in untargeted.entries:
        twin = with_targets.get(entry.key)
        counts = success_counts(entry, twin, (untargeted.attack, targeted.attack)) if twin else {}
        if not counts:
            continue
        for k, kind in enumerate(_STYLES):
            head = {**entry_columns(targeted, entry), "seeds": len(counts), "kind": kind}
            cells = success_cells({seed: (each[k], each[-1]) for seed, each in counts.items()})
            rows += [
                {**head, "class": name, **value_columns(cell)}
                for name, cell in zip(class_names(untargeted), cells, strict=True)
            ]
    if not rows:
        raise NothingToDrawError(
            "no run has both attacks at the same checkpoint.", hint="run: fairbench run --suite figure1"
        )
    return pd.DataFrame(rows)


def success_counts(
    entry: Entry, twin: Entry, attacks: tuple[AttackKey | None, AttackKey | None]
) -> dict[int, np.ndarray]:
    """By seed (4, C) images: of each kind of success, and all that are correct without attack.

    Means over the checkpoints that both attacks have; without one, the seed is left out. twin: the same entry
    under the attack with targets.
    """
    counts = {}
    for number in sorted(entry.seeds.keys() & twin.seeds.keys()):
        seed, other = entry.seeds[number], twin.seeds[number]
        epochs = sorted(set(seed.epochs) & set(other.epochs))
        if epochs:
            counts[number] = np.mean([_counts(seed.record, epoch, attacks) for epoch in epochs], axis=0)
    return counts


def _counts(record: Record, epoch: int, attacks: tuple[AttackKey | None, AttackKey | None]) -> np.ndarray:
    clean, untargeted, targeted = (outcomes_under(record, attack, epoch) for attack in (None, *attacks))
    correct = clean["correct"]
    images = (
        correct & ~untargeted["correct"],
        correct & ~targeted["correct"],
        correct & targeted["reached_target"],
        correct,
    )
    return np.array([class_hits(chosen, clean["label"], record.num_classes) for chosen in images])


def success_cells(counts: dict[int, tuple[np.ndarray, np.ndarray]]) -> list[TableCell]:
    """(C,) the share with its interval. counts: by seed (C,) successes, and (C,) correct images."""
    cells = across_seeds({seed: class_accuracy(hits, count) for seed, (hits, count) in counts.items()})
    if len(counts) == 1:
        ((hits, count),) = counts.values()
        cells = [with_wilson(cell, hits[c], count[c]) for c, cell in enumerate(cells)]
    return [cell if cell.exists else TableCell() for cell in cells]


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """A panel per method: three bars per class, with very many classes three sorted lines."""
    styles = entry_styles(data)
    names = [printable(name) for name in data["class"].unique()]
    few = len(names) <= FEW_CLASSES
    inches = INCHES[width] - 0.5
    height = max(0.75, min(1.5, 8.2 / len(styles)))
    room = turned_height(names, inches) if few else 0.0
    drawing = new_drawing(width, 0.35 + height * len(styles) + room)
    grid = drawing.subplots(len(styles), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (entry, style) in zip(grid, styles.items(), strict=True):
        own = data[data["entry"] == entry]
        kinds = [(own[own["kind"] == kind], *look) for kind, look in _STYLES.items()]
        if few:
            handles = class_bars(axes, [(rows, colour, hatch) for rows, colour, hatch, _ in kinds])
        else:
            handles = [sorted_line(axes, rows, colour, dash) for rows, colour, _, dash in kinds]
        axes.set(ylim=(0, 100), ylabel="success (%)", title=style.title)
    if few:
        name_ticks(grid[-1], names, inches)
    else:
        grid[-1].set_xlabel("classes, from the lowest success")
    legend(drawing, handles, list(_STYLES))
    return drawing
