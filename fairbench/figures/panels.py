"""The records of a results folder, one panel per data set, network, protocol and attack."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fairbench.core.errors import UnknownNameError
from fairbench.figures.figure import Figure, FigureKey, NothingToDrawError, Options
from fairbench.records.deduplicate import distinct
from fairbench.records.read import Record
from fairbench.tables.captions import caption
from fairbench.tables.entries import Entry, SideCache, make_entries
from fairbench.tables.groups import AttackKey, Setting, attacks_in, setting_labels, setting_of
from fairbench.tables.views import TableRequest, baseline_of, rank


@dataclass(frozen=True)
class Panel:
    """The entries of one setting under one attack (or none), in the order of a table's rows."""

    first: Record
    attack: AttackKey | None
    entries: tuple[Entry, ...]
    base: Entry | None
    variant: str
    digest: str

    @property
    def place(self) -> FigureKey:
        record = self.first
        attack = "" if self.attack is None else self.attack.name
        variant = self.digest[:8] if self.variant else ""
        return FigureKey(record.dataset, record.model, record.protocol, attack, variant)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.some_record.class_names

    @property
    def some_record(self) -> Record:
        """One that is done."""
        return next(iter(self.entries[0].seeds.values())).record

    def sides(self, options: Options) -> tuple[str, ...]:
        """The sides asked for, both by default; clean alone where there was no attack."""
        there = ("clean", "robust") if self.attack is not None else ("clean",)
        found = tuple(side for side in there if options.side in (None, side))
        if not found:
            raise NothingToDrawError(
                f"no attack was evaluated on {self.first.dataset} under {self.first.protocol}.",
                hint="add one: fairbench run --attacks pgd-20 with the options of the run",
            )
        return found

    def words(self, sides: Sequence[str], columns: tuple[str, ...], options: Options) -> str:
        """What a table of these numbers says of itself: place, attack, seeds, checkpoints, errors, images."""
        request = TableRequest(columns=columns, baseline=options.baseline)
        return caption(self.first, self.entries, self.attack, self.base, request, sides)


def panels(records: Iterable[Record], options: Options) -> list[Panel]:
    """A panel for each setting and attack; one without attack where none was evaluated.

    Raises UnknownNameError for an attack that no record was evaluated under, NothingToDrawError when no run
    is done.
    """
    found = []
    known: set[str] = set()
    cache = SideCache()
    for place in settings(records):
        attacks = attacks_in(place.records)
        known |= {attack.name for attack in attacks}
        chosen: list[AttackKey | None] = [a for a in attacks if options.attack in (None, a.name)]
        if not chosen and options.attack is None:
            chosen = [None]
        found += [panel for one in chosen if (panel := place.panel(one, cache, options)) is not None]
    check_attack(options, known)
    if not found:
        raise nothing_done()
    return found


@dataclass(frozen=True)
class SettingRecords:
    """The records of one setting, done or not."""

    setting: Setting
    records: tuple[Record, ...]
    variant: str

    def panel(self, attack: AttackKey | None, cache: SideCache, options: Options) -> Panel | None:
        """Its entries under `attack`; None when no run of them is done."""
        entries = make_entries(self.records, attack, cache)
        base = baseline_of(entries, options.baseline)
        ranked = rank(entries, base, TableRequest(baseline=options.baseline, order=options.methods))
        if not ranked:
            return None
        return Panel(self.records[0], attack, tuple(ranked), base, self.variant, self.setting.digest)


def settings(records: Iterable[Record]) -> list[SettingRecords]:
    """The records by data set, network and protocol, each cell once."""
    found: dict[Setting, list[Record]] = defaultdict(list)
    for record in distinct(list(records))[0]:
        found[setting_of(record)].append(record)
    labels = setting_labels({setting: runs[0] for setting, runs in found.items()})
    return [SettingRecords(place, tuple(found[place]), labels[place]) for place in sorted(found)]


def check_attack(options: Options, known: Iterable[str]) -> None:
    """Raise UnknownNameError when the attack that was asked for is not among `known`."""
    if options.attack is not None and options.attack not in set(known):
        raise UnknownNameError(
            "attack", options.attack, set(known), asked_by="--attack; the evaluations of these results"
        )


def nothing_done() -> NothingToDrawError:
    return NothingToDrawError(
        "no run to draw is done.", hint="see: fairbench status; start with: fairbench run"
    )


def without_attacks(records: Iterable[Record], options: Options, *, lone: bool = False) -> list[Panel]:
    """A panel for each setting, for what is about training. Raises NothingToDrawError when no run is done.

    With `lone`, under the attack of a setting that has just one.
    """
    cache = SideCache()
    found = []
    for place in settings(records):
        attacks = attacks_in(place.records)
        attack = attacks[0] if lone and len(attacks) == 1 else None
        if (panel := place.panel(attack, cache, options)) is not None:
            found.append(panel)
    if not found:
        raise nothing_done()
    return found


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
