"""The tables of a results folder as panels of figures: one per data set, network, protocol and attack."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fairbench.figures.figure import Figure, FigureKey, NothingToDrawError, Options
from fairbench.records.read import AttackKey, Record
from fairbench.tables.captions import caption
from fairbench.tables.entries import Entry
from fairbench.tables.inventory import Inventory, TableSpec
from fairbench.tables.request import TableRequest


@dataclass(frozen=True)
class Panel:
    """A table with at least one done run, as figures show it."""

    spec: TableSpec

    @property
    def attack(self) -> AttackKey | None:
        return self.spec.attack

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.spec.entries

    @property
    def place(self) -> FigureKey:
        setting, key = self.spec.setting, self.spec.setting.key
        attack = "" if self.attack is None else self.attack.name
        return FigureKey(
            key.dataset, key.model, key.protocol, attack, key.digest[:8] if setting.variant else ""
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.entries[0].record.class_names

    def sides(self, options: Options) -> tuple[str, ...]:
        """The sides asked for, both by default; clean alone where there was no attack."""
        there = ("clean", "robust") if self.attack is not None else ("clean",)
        found = tuple(side for side in there if options.side in (None, side))
        if not found:
            key = self.spec.setting.key
            raise NothingToDrawError(
                f"no attack was evaluated on {key.dataset} under {key.protocol}.",
                hint="add one: fairbench run --attacks pgd-20 with the options of the run",
            )
        return found

    def words(self, sides: Sequence[str], columns: tuple[str, ...], options: Options) -> str:
        """The caption of a table of these numbers: place, attack, seeds, checkpoints, errors, images."""
        return caption(self.spec, TableRequest(columns=columns, baseline=options.baseline), sides)


def inventory(records: Iterable[Record], options: Options) -> Inventory:
    """The tables of the records. Raises UnknownNameError when none was evaluated under the chosen attack."""
    tables = Inventory(records, options.baseline, options.methods)
    tables.check_attack(options.attack)
    return tables


def panels(records: Iterable[Record], options: Options) -> list[Panel]:
    """A panel for each setting and attack; one without attack where none was evaluated.

    Raises UnknownNameError for an attack that no record was evaluated under, NothingToDrawError when no run
    is done.
    """
    return _done(inventory(records, options).specs(options.attack))


def without_attacks(records: Iterable[Record], options: Options, *, lone: bool = False) -> list[Panel]:
    """A panel for each setting, for what is about training. Raises NothingToDrawError when no run is done.

    With `lone`, under the attack of a setting that has just one.
    """
    tables = Inventory(records, options.baseline, options.methods)
    return _done(
        [
            tables.spec(setting, setting.attacks[0] if lone and len(setting.attacks) == 1 else None)
            for setting in tables.settings
        ]
    )


def _done(specs: Sequence[TableSpec]) -> list[Panel]:
    found = [Panel(spec) for spec in specs if spec.entries]
    if not found:
        raise nothing_done()
    return found


def nothing_done() -> NothingToDrawError:
    return NothingToDrawError(
        "no run to draw is done.", hint="see: fairbench status; start with: fairbench run"
    )


def every(found: Sequence[Panel], make: Callable[[Panel], Figure]) -> list[Figure]:
    """What `make` makes of each, without those that have nothing to draw; raises when none has."""
    made, faults = [], []
    for panel in found:
        try:
            made.append(make(panel))
        except NothingToDrawError as error:
            faults.append(error)
    if faults and not made:
        raise faults[0]
    return made
