"""What figures draw: the tables of a results folder that fit a figure's options, one panel each.

A panel is a `TableSpec`: the entries of one setting under one attack, in the order of a table's rows.
"""

from collections.abc import Iterable

from fairbench.figures.figure import FigureKey, FigureOptions, NothingToDrawError
from fairbench.records.read import Record
from fairbench.tables.columns import SIDES
from fairbench.tables.description import description
from fairbench.tables.inventory import Inventory, TableSpec
from fairbench.tables.request import TableRequest


def inventory_of(records: Iterable[Record], options: FigureOptions) -> Inventory:
    """The tables of the records. Raises UnknownNameError when none was evaluated under the chosen attack."""
    inventory = Inventory(records, options.baseline, options.methods)
    inventory.check_attack(options.attack)
    return inventory


def panels(records: Iterable[Record], options: FigureOptions) -> list[TableSpec]:
    """A panel for each setting and attack; one without attack where none was evaluated.

    Raises UnknownNameError for an attack that no record was evaluated under, NothingToDrawError when no run
    is done.
    """
    return drawable(inventory_of(records, options).specs(options.attack))


def training_panels(
    records: Iterable[Record], options: FigureOptions, *, single_attack: bool = False
) -> list[TableSpec]:
    """A panel without attack for each setting. Raises NothingToDrawError when no run is done.

    single_attack: in a setting with exactly one attack, the panel is under that attack.
    """
    inventory = inventory_of(records, options)
    return drawable(
        inventory.spec(setting, setting.attacks[0] if single_attack and len(setting.attacks) == 1 else None)
        for setting in inventory.settings
    )


def drawable(specs: Iterable[TableSpec]) -> list[TableSpec]:
    """The panels that have a run that is done. Raises NothingToDrawError when none has."""
    with_runs = [spec for spec in specs if spec.entries]
    if not with_runs:
        raise NothingToDrawError(
            "no run to draw is done.", hint="see: fairbench status; start with: fairbench run"
        )
    return with_runs


def key_of(spec: TableSpec) -> FigureKey:
    """The key of a figure of this panel."""
    setting, attack = spec.setting, "" if spec.attack is None else spec.attack.name
    variant = setting.key.digest[:8] if setting.variant else ""
    return FigureKey(setting.key.dataset, setting.key.model, setting.key.protocol, attack, variant)


def class_names(spec: TableSpec) -> tuple[str, ...]:
    """(C,) the names of the classes."""
    return spec.entries[0].record.class_names


def sides_of(spec: TableSpec, options: FigureOptions) -> tuple[str, ...]:
    """The sides asked for, both by default; without attack there is only "clean".

    Raises NothingToDrawError for "robust" without attack.
    """
    sides = SIDES if spec.attack is not None else ("clean",)
    chosen = tuple(side for side in sides if options.side in (None, side))
    if not chosen:
        setting = spec.setting.key
        raise NothingToDrawError(
            f"no attack was evaluated on {setting.dataset} under {setting.protocol}.",
            hint="add one: fairbench run --attacks pgd-20 with the options of the run",
        )
    return chosen


def table_caption(
    spec: TableSpec, sides: tuple[str, ...], columns: tuple[str, ...], options: FigureOptions
) -> str:
    """The caption of a table of these numbers: setting, attack, seeds, checkpoints, errors, test images."""
    return " ".join(description(spec, TableRequest(columns=columns, baseline=options.baseline), sides))
