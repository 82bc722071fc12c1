"""The tables of a paper from records: one per data set, network, protocol, attack and side."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from fairbench.core.errors import ConfigError, RecordError, UnknownNameError
from fairbench.core.identity import digest
from fairbench.metrics.rho import Convention, check_convention
from fairbench.records.attack_strength import published_as
from fairbench.records.deduplicate import distinct
from fairbench.records.read import CLEAN, Evaluation, Record, no_collection
from fairbench.tables import by_class, comparison
from fairbench.tables.captions import caption, title
from fairbench.tables.columns import SIDES, Baseline, columns, measure
from fairbench.tables.entries import Entry, SideCache, make_entries
from fairbench.tables.groups import (
    AttackKey,
    Setting,
    attacks_in,
    attacks_of,
    is_per_method,
    setting_labels,
    setting_of,
)
from fairbench.tables.highlight import marked
from fairbench.tables.notes import copies_note, notes
from fairbench.tables.table import ErrorKind, Row, RunDigest, Table

TAIL = "worst-tail"
VIEWS = {  # what a view measures; one table per side where more than four columns of each would not fit
    "main": ("average", "worst", "floor", "rho"),
    "fairness": ("worst", "limits", "floor", "split-half", TAIL, "gap", "deviation"),
    "classes": (),
    "comparison": (),
}


@dataclass(frozen=True)
class TableRequest:
    """What a table shows. `columns` by name, those of the view when empty."""

    view: str = "main"
    columns: tuple[str, ...] = ()
    baseline: str = "trades"
    order: tuple[str, ...] = ()
    error: ErrorKind = "t95"
    convention: Convention = "signed"

    def __post_init__(self) -> None:
        """Raises UnknownNameError for a view or column, ConfigError for an error or a rule of rho."""
        check_convention(self.convention)
        if self.error not in get_args(ErrorKind):
            raise ConfigError(f"no kind of error called {self.error!r}.", hint="known: t95, sd")
        if self.view not in VIEWS:
            raise UnknownNameError("view", self.view, VIEWS, asked_by=f"--view {self.view}")
        if self.columns and not VIEWS[self.view]:
            raise ConfigError(
                f"the view {self.view!r} has columns of its own.", hint="leave --columns out, or --view main"
            )
        for name in self.columns:
            measure(name)  # or an error

    @property
    def compares(self) -> bool:
        """Whether the table needs the baseline."""
        return self.view == "comparison" or "rho" in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of each side."""
        return self.columns or VIEWS[self.view]

    def for_classes(self, num_classes: int) -> "TableRequest":
        """With every column by its own name: the tail is 30 % of few classes, 10 % of 50 or more."""
        tail = "worst-10" if num_classes >= 50 else "worst-30"
        return replace(self, columns=tuple(tail if name == TAIL else name for name in self.names))

    def to_json(self) -> dict[str, Any]:
        """What makes the same table again."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in _FIELDS}

    @classmethod
    def from_json(cls, asked: Mapping[str, Any]) -> "TableRequest":
        """What `to_json` said. Raises RecordError for anything else."""
        if set(asked) != set(_FIELDS):
            raise RecordError(f"these are not the options of a table: {', '.join(sorted(asked))}.")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in asked.items()}
        for name, value in given.items():
            listed = name in ("columns", "order")
            texts = value if listed and isinstance(value, tuple) else (value,)
            if listed != isinstance(value, tuple) or not all(isinstance(text, str) for text in texts):
                raise RecordError(f"{value!r} is nothing for the option {name!r} of a table.")
        return cls(**given)


_FIELDS = ("view", "columns", "baseline", "order", "error", "convention")


@no_collection()
def build_tables(
    records: Iterable[Record], request: TableRequest = TableRequest(), attack: str | None = None
) -> list[Table]:
    """One table per data set, network, protocol and evaluation attack of the records, as `request` says.

    The baseline's row comes first, then the methods in `order`, then the others by name. Only
    records that are done are averaged; what happened to the others is in the notes. `attack`
    keeps one attack. Without any attack in the records the robust columns stay empty. Raises
    UnknownNameError for an attack that no record was evaluated under.
    """
    kept, disputed = distinct(list(records))
    settings: dict[Setting, list[Record]] = defaultdict(list)
    for record in kept:
        settings[setting_of(record)].append(record)
    attacks = {setting: attacks_in(found) for setting, found in settings.items()}
    if attack is not None:
        known = {a.name for found in attacks.values() for a in found}
        if attack not in known:
            raise UnknownNameError("attack", attack, known, asked_by="the evaluations of these results")
    labels = setting_labels({setting: found[0] for setting, found in settings.items()})
    cache = SideCache()
    tables = []
    for setting in sorted(settings):
        found = settings[setting]
        copies = tuple(copies_note(record) for record in disputed if setting_of(record) == setting)
        for one, sides in _places(request, attacks[setting], attack):
            entries = make_entries(found, one, cache)
            words = title(found[0], one, labels[setting], sides if len(sides) == 1 else ())
            table = _table(words, found[0], one, sides, entries, request)
            tables.append(replace(table, notes=table.notes + copies))
    return tables


def rebuild_table(
    records: Sequence[Record], request: TableRequest, settings: str, sides: Sequence[str]
) -> Table:
    """The table that `build_tables` made of these records, whatever else they were evaluated under since.

    settings: the `settings_digest` of its attack. Raises RecordError when they make no such table.
    """
    if len({setting_of(record) for record in records}) != 1:
        raise RecordError("its records are not of one data set, network and protocol.")
    attacks = [attack for attack in attacks_in(records) if settings_digest(attack) == settings]
    for one, found in _places(request, attacks, None):
        if (settings_digest(one), found) == (settings, tuple(sides)):
            entries = make_entries(records, one, SideCache())
            return _table(title(records[0], one, "", sides), records[0], one, found, entries, request)
    raise RecordError("no table of its records has its attack and columns.")


def settings_digest(attack: AttackKey | None) -> str:
    """A hash of the attack's name and settings; "" for none."""
    return "" if attack is None else digest([attack.name, attack.settings])


def _places(
    request: TableRequest, attacks: Sequence[AttackKey], attack: str | None
) -> list[tuple[AttackKey | None, tuple[str, ...]]]:
    """The tables of one setting: under which attack, and the sides in it."""
    chosen: list[AttackKey | None] = [a for a in attacks if attack in (None, a.name)]
    if request.view == "main":
        return [(one, SIDES) for one in chosen or ([None] if attack is None else [])]
    clean: list[tuple[AttackKey | None, tuple[str, ...]]] = [(None, ("clean",))]
    return [*(clean if attack is None else []), *((one, ("robust",)) for one in chosen)]


def _table(
    words: str,
    first: Record,
    attack: AttackKey | None,
    sides: tuple[str, ...],
    entries: Sequence[Entry],
    request: TableRequest,
) -> Table:
    base = baseline_of(entries, request.baseline)
    asked = (*request.to_json().items(), ("settings", settings_digest(attack)))
    ranked = rank(entries, base, request)
    done = [seed.record for entry in ranked for seed in entry.seeds.values()]
    request = request.for_classes(done[0].num_classes if done else 0)
    head, found = "method", columns(request.names, sides)
    rows: tuple[Row, ...]
    if request.view == "classes":
        head, found, rows = by_class.rows(ranked, sides[0])
    elif request.view == "comparison":
        found, rows = comparison.rows(ranked, base, attack, sides[0])
    else:
        against = Baseline(base, request.convention)
        rows = marked([_row(entry, request.names, sides, against) for entry in ranked], found)
    by_label = {entry.label: entry for entry in ranked}
    used = {entry.label: evidence(entry, attack) for entry in ranked}
    against_base = used[base.label] if request.view == "comparison" and base else ()
    if head == "method":  # not where methods are columns
        rows = tuple(_told(row, by_label[row.label], used[row.label] + against_base) for row in rows)
    return Table(
        dataset=first.dataset,
        model=first.model,
        protocol=first.protocol,
        protocol_version="" if is_per_method(first) else str(first.identity("protocol").get("version", "")),
        attack="" if attack is None else attack.name,
        published_as="" if attack is None else published_as(json.loads(attack.settings)),
        view=request.view,
        title=words,
        caption=caption(first, ranked, attack, base, request, sides),
        notes=tuple(notes(entries, ranked, attack, base, request, sides)),
        columns=found,
        rows=rows,
        evidence=tuple(item for items in used.values() for item in items),
        error=request.error,
        convention=request.convention,
        head=head,
        request=asked,
    )


def _row(entry: Entry, names: Sequence[str], sides: Sequence[str], against: Baseline) -> Row:
    cells = tuple(measure(name).cell(entry, side, against) for side in sides for name in names)
    return Row(entry.method, entry.label, cells)


def _told(row: Row, entry: Entry, used: tuple[RunDigest, ...]) -> Row:
    """The row with what it rests on."""
    records = [seed.record for seed in entry.seeds.values()]
    return replace(
        row,
        title=entry.title,
        seeds=tuple(entry.seeds),
        worst_class_clean=entry.worst_class_name("clean"),
        worst_class_robust=entry.worst_class_name("robust"),
        warnings=tuple(dict.fromkeys(w for record in records for w in record.warnings)),
        evidence=used,
    )


def evidence(entry: Entry, attack: AttackKey | None) -> tuple[RunDigest, ...]:
    """The runs of an entry with the digest of the outcomes that a table under `attack` uses."""
    return tuple(
        RunDigest(
            seed.record.folder.name,
            seed.record.id,
            evidence_digest(seed.record, attack, seed.epochs),
        )
        for seed in entry.seeds.values()
    )


def evidence_digest(record: Record, attack: AttackKey | None, epochs: Sequence[int]) -> str:
    """A hash of the digests of a run's outcomes at `epochs`, without an attack and under `attack`."""
    used = used_evaluations(record, attack, epochs)
    return digest(sorted((e.attack, e.epoch, e.id, e.digest or "") for e in used))


def used_evaluations(record: Record, attack: AttackKey | None, epochs: Sequence[int]) -> list[Evaluation]:
    """The evaluations at `epochs` that a table under `attack`, with its very settings, is made from."""
    id = None if attack is None else attacks_of(record).get(attack)
    name = None if attack is None else attack.name
    return [
        e
        for e in record.evaluations
        if e.epoch in epochs and (e.attack == CLEAN or (e.attack, e.id) == (name, id))
    ]


def rank(entries: Sequence[Entry], base: Entry | None, request: TableRequest) -> list[Entry]:
    """The entries that have a finished run, in the order of a table's rows."""
    place = {name: k for k, name in enumerate(request.order)}
    return sorted(
        (entry for entry in entries if entry.seeds),
        key=lambda e: (
            e is not base,
            e.method != request.baseline,
            place.get(e.method, len(place)),
            e.method,
            e.label,
            e.key,
        ),
    )


def baseline_of(entries: Sequence[Entry], baseline: str) -> Entry | None:
    """The baseline's entry that rho compares with.

    Where there is a choice: without overrides, with the most seeds, finished last.
    """
    found = (entry for entry in entries if entry.method == baseline and entry.seeds)
    return max(found, key=lambda e: (not e.overrides, len(e.seeds), _finished(e)), default=None)


def _finished(entry: Entry) -> tuple[str, str]:
    return max(seed.record.finished for seed in entry.seeds.values()), entry.key
