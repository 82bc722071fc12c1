"""Which tables exist: the settings of the records, the attacks of each, and the rows under each attack.

This is the only place that derives them. Tables, figures and the page ask it:

    inventory = Inventory(records, baseline="trades")
    for spec in inventory.specs():                  # a table for each setting and attack
        spec.setting, spec.attack, spec.entries, spec.base
    for setting in inventory.settings:              # or others, for instance of training alone
        inventory.spec(setting, None)

The same setting and attack always give the same spec, so a spec can be a key.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairbench.metrics.rho import BASELINE
from fairbench.records.deduplicate import distinct
from fairbench.records.read import AttackKey, Record
from fairbench.tables.entries import Entry, SideCache, make_entries
from fairbench.tables.groups import Setting, setting_labels, setting_of
from fairbench.tables.record_choice import names_in


@dataclass(frozen=True, eq=False)
class SettingRecords:
    """The records of one data set, network and protocol, done or not, each cell once.

    disputed: those of which a copy has other outcomes. variant: how the setting differs from others of the
    same names, "" where the names suffice. attacks: what done records were evaluated under, by name.
    """

    key: Setting
    records: tuple[Record, ...]
    disputed: tuple[Record, ...]
    variant: str
    attacks: tuple[AttackKey, ...]

    @property
    def first(self) -> Record:
        """A record, done or not, for what all records of the setting have in common."""
        return self.records[0]


@dataclass(frozen=True, eq=False)
class TableSpec:
    """One table: a setting under one attack (None for none), with its rows.

    entries: the rows in order, each with at least one done run: the baseline, then the methods in the order
    of the inventory, then the others by name. all_entries: also those without a done run, by label. base:
    the entry of the baseline that the others are compared with; None when no run of it is done.
    """

    setting: SettingRecords
    attack: AttackKey | None
    all_entries: tuple[Entry, ...]
    entries: tuple[Entry, ...]
    base: Entry | None

    @property
    def num_classes(self) -> int:
        """The classes of the data set; 0 when no run is done."""
        return self.entries[0].record.num_classes if self.entries else 0


class Inventory:
    """The tables of some records. `settings` are in the order of data set, network and protocol."""

    def __init__(
        self, records: Iterable[Record], baseline: str = BASELINE, order: Sequence[str] = ()
    ) -> None:
        """Of copies of a cell one counts: a done one, of those the newest.

        baseline: the method that others are compared with. order: of methods in the rows.
        """
        self.baseline = baseline
        self.order = tuple(order)
        self.settings = _settings(list(records))
        self._sides = SideCache()
        self._specs: dict[tuple[Setting, AttackKey | None], TableSpec] = {}

    def specs(self, attack: str | None = None, *, clean_apart: bool = False) -> list[TableSpec]:
        """For each setting a table per attack; one without attack where no attack was evaluated.

        attack: only the attacks that this text chooses, as in `fairbench.registry.names`. clean_apart: each
        setting begins with a table without attack, unless `attack` is given. Raises UnknownNameError when no
        done record was evaluated under `attack`.
        """
        names = self.check_attack(attack)
        specs = []
        for setting in self.settings:
            chosen: list[AttackKey | None] = [key for key in setting.attacks if key.name in names]
            if attack is None and (clean_apart or not chosen):
                chosen.insert(0, None)
            specs += [self.spec(setting, key) for key in chosen]
        return specs

    def spec(self, setting: SettingRecords, attack: AttackKey | None) -> TableSpec:
        """The table of one setting under `attack`, None for no attack."""
        place = (setting.key, attack)
        if place not in self._specs:
            entries = make_entries(setting.records, attack, self._sides)
            base = _baseline(entries, self.baseline)
            self._specs[place] = TableSpec(setting, attack, tuple(entries), self._ranked(entries, base), base)
        return self._specs[place]

    def check_attack(self, attack: str | None) -> tuple[str, ...]:
        """The names of attacks that the text chooses; None chooses all.

        Raises UnknownNameError when no done record was evaluated under an attack of that name.
        """
        known = {key.name for setting in self.settings for key in setting.attacks}
        return tuple(known) if attack is None else names_in(known, "attack", attack, "--attacks")

    def _ranked(self, entries: Iterable[Entry], base: Entry | None) -> tuple[Entry, ...]:
        place = {name: k for k, name in enumerate(self.order)}
        ranked = sorted(
            (entry for entry in entries if entry.seeds),
            key=lambda e: (
                e is not base,
                e.method != self.baseline,
                place.get(e.method, len(place)),
                e.method,
                e.label,
                e.key,
            ),
        )
        return tuple(ranked)


def _settings(records: Sequence[Record]) -> tuple[SettingRecords, ...]:
    kept, disputed = distinct(records)
    by_key: dict[Setting, list[Record]] = defaultdict(list)
    for record in kept:
        by_key[setting_of(record)].append(record)
    labels = setting_labels({key: members[0] for key, members in by_key.items()})
    return tuple(
        SettingRecords(
            key,
            tuple(by_key[key]),
            tuple(record for record in disputed if setting_of(record) == key),
            labels[key],
            _attacks(by_key[key]),
        )
        for key in sorted(by_key)
    )


def _attacks(records: Iterable[Record]) -> tuple[AttackKey, ...]:
    done = (record for record in records if record.state == "done")
    return tuple(sorted({attack for record in done for attack in record.attack_ids}))


def _baseline(entries: Iterable[Entry], method: str) -> Entry | None:
    """Of several entries of `method`: one without overrides, with the most seeds, finished last."""
    choices = (entry for entry in entries if entry.method == method and entry.seeds)
    return max(choices, key=lambda e: (not e.overrides, len(e.seeds), _finished(e)), default=None)


def _finished(entry: Entry) -> tuple[str, str]:
    return max(seed.record.finished for seed in entry.seeds.values()), entry.key
