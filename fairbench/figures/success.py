"""How often an attack succeeds per class: away from the true class beside towards a drawn one."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.figures.classes import add_whiskers
from fairbench.figures.figure import Figure, NothingToDrawError, Options
from fairbench.figures.numbers import (
    FEW_CLASSES,
    entry_columns,
    limits,
    place_columns,
)
from fairbench.figures.panels import Panel, inventory
from fairbench.figures.style import (
    INCHES,
    Width,
    legend,
    looks,
    name_room,
    name_ticks,
    new_drawing,
    shown,
)
from fairbench.metrics.classwise import class_accuracy, class_hits
from fairbench.records.read import CLEAN, AttackKey, Record
from fairbench.tables.by_class import across_seeds, with_wilson
from fairbench.tables.captions import describe_attack
from fairbench.tables.entries import Entry
from fairbench.tables.table import TableCell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

UNTARGETED, MOVED, REACHED = "untargeted", "targeted: wrong", "targeted: target reached"
_LOOKS = {UNTARGETED: ("#555555", ""), MOVED: ("#56B4E9", "////"), REACHED: ("#D55E00", "....")}


@dataclass(frozen=True)
class TargetedPair:
    """The same records under an attack and under the same one with targets."""

    untargeted: Panel
    targeted: Panel


def success_figures(records: Iterable[Record], options: Options) -> list[Figure]:
    """A figure for each targeted attack that has its untargeted twin."""
    return [success_figure(pair, options) for pair in pairs(records, options)]


def pairs(records: Iterable[Record], options: Options) -> list[TargetedPair]:
    """The twins. Raises NothingToDrawError when there are none."""
    found = []
    tables = inventory(records, options)
    for setting in tables.settings:
        for targeted in setting.attacks:
            twin = twin_of(targeted, setting.attacks)
            if twin is None or options.attack not in (None, targeted.name, twin.name):
                continue
            one, other = tables.spec(setting, twin), tables.spec(setting, targeted)
            if one.entries and other.entries:
                found.append(TargetedPair(Panel(one), Panel(other)))
    if not found:
        raise NothingToDrawError(
            "no run here was attacked with and without targets by otherwise the same attack.",
            hint="run: fairbench run --suite figure1, or the run's own options with\n"
            "--attacks pgd-20,pgd-20-targeted (digits: pgd-20-digits,pgd-20-digits-targeted)",
        )
    return found


def twin_of(targeted: AttackKey, attacks: Sequence[AttackKey]) -> AttackKey | None:
    """The attack with the settings of `targeted` but for its targets; None for one without targets."""
    settings = json.loads(targeted.settings)
    if settings.pop("target", None) is None:
        return None
    return next((one for one in attacks if json.loads(one.settings) == settings), None)


def success_figure(pair: TargetedPair, options: Options) -> Figure:
    """Three shares per class: moved away, moved away by an attack with targets, and taken for the target."""
    data = success_data(pair)
    words = (
        f"{pair.untargeted.words(('robust',), ('average',), options)} Beside it "
        f"{describe_attack(pair.targeted.attack)}, towards a wrong class drawn for each image. Success is "
        "the share of the images right without attack that are wrong under it, or taken for their target. "
        "Whiskers are 95 % t intervals over seeds, for one seed 95 % Wilson intervals over these images."
    )
    return Figure(pair.targeted.place, data, draw(data, options.width or "two"), words)


def success_data(pair: TargetedPair) -> "pd.DataFrame":
    """One row per method, kind of success and class."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    twins = {entry.key: entry for entry in pair.targeted.entries}
    for entry in pair.untargeted.entries:
        twin = twins.get(entry.key)
        shares = {} if twin is None else _by_seed(entry, twin, pair)
        if not shares:
            continue
        for k, kind in enumerate(_LOOKS):
            hits = {seed: found[k] for seed, found in shares.items()}
            count = {seed: found[-1] for seed, found in shares.items()}
            cells = across_seeds({seed: class_accuracy(hits[seed], count[seed]) for seed in hits})
            if len(hits) == 1:
                (seed,) = hits
                cells = [with_wilson(cell, hits[seed][c], count[seed][c]) for c, cell in enumerate(cells)]
            head = {
                **place_columns(pair.targeted),
                **entry_columns(entry),
                "seeds": len(shares),
                "kind": kind,
            }
            rows += [
                {**head, "class": name, **limits(_known(cell))}
                for name, cell in zip(pair.untargeted.class_names, cells, strict=True)
            ]
    if not rows:
        raise NothingToDrawError(
            "no run has both attacks at the same checkpoint.", hint="run: fairbench run --suite figure1"
        )
    return pd.DataFrame(rows)


def _known(cell: TableCell) -> TableCell:
    return cell if cell.exists else TableCell()


def _by_seed(entry: Entry, twin: Entry, pair: TargetedPair) -> dict[int, list[np.ndarray]]:
    """For each seed (C,) images, means over checkpoints: of each success, and right without attack."""
    found = {}
    for number in entry.seeds.keys() & twin.seeds.keys():
        one, other = entry.seeds[number], twin.seeds[number]
        record, epochs = one.record, sorted(set(one.epochs) & set(other.epochs))
        counts = [_counts(record, epoch, pair) for epoch in epochs]
        if counts:
            found[number] = [np.mean(each, axis=0) for each in zip(*counts, strict=True)]
    return dict(sorted(found.items()))


def _counts(record: Record, epoch: int, pair: TargetedPair) -> list[np.ndarray]:
    ids = record.attack_ids
    clean = record.outcomes(CLEAN, epoch)
    attacked = [
        record.outcomes(panel.attack.name, epoch, ids[panel.attack])
        for panel in (pair.untargeted, pair.targeted)
        if panel.attack is not None
    ]
    right = clean["correct"]
    events = [right & ~rows["correct"] for rows in attacked]
    reached = attacked[1]["reached_target"]
    events += [right & reached, right]
    return [class_hits(event, clean["label"], record.num_classes) for event in events]


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """A row per method, three bars per class; with very many classes three sorted curves."""
    found = looks(data)
    names = list(data["class"].unique())
    room = 0.0
    if len(names) <= FEW_CLASSES:
        room = name_room([shown(name) for name in names], INCHES[width] - 0.5)
    drawing = new_drawing(width, 0.35 + max(0.75, min(1.5, 8.2 / len(found))) * len(found) + room)
    rows = drawing.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    handles: list[Any] = []
    for axes, (entry, look) in zip(rows, found.items(), strict=True):
        handles = []
        axes.set_xlim(*((-0.6, len(names) - 0.4) if len(names) <= FEW_CLASSES else (1, len(names))))
        for k, (kind, (colour, hatch)) in enumerate(_LOOKS.items()):
            own = data[(data["entry"] == entry) & (data["kind"] == kind)]
            if len(names) <= FEW_CLASSES:
                x = np.arange(len(own)) + (k - 1) * 0.27
                handles.append(
                    axes.bar(x, 100 * own["value"], 0.25, color=colour, hatch=hatch, edgecolor="white", lw=0)
                )
                add_whiskers(axes, x, own)
            else:
                (line,) = axes.plot(
                    range(1, len(own) + 1), np.sort(100 * own["value"]), color=colour, ls=("-", "--", ":")[k]
                )
                handles.append(line)
        axes.set(ylim=(0, 100), ylabel="success (%)", title=look.title)
        axes.tick_params(axis="x", length=0)
    if len(names) <= FEW_CLASSES:
        name_ticks(rows[-1], [shown(name) for name in names], INCHES[width] - 0.5)
    else:
        rows[-1].set_xlabel("classes, from the lowest")
    legend(drawing, handles, list(_LOOKS))
    return drawing
