"""The tables of a paper: one per data set, network, protocol and attack; one row per entry."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import Convention, check_convention
from fairbench.records.read import Record
from fairbench.reporting.captions import caption, copies_note, notes, title
from fairbench.reporting.entries import Entry, SideCache, distinct, make_entries
from fairbench.reporting.groups import Attack, Setting, attacks_of, is_per_method, setting_labels, setting_of
from fairbench.stats.intervals import Interval, rho_interval, t_interval

ErrorKind = Literal["t95", "sd"]
COLUMNS = ("clean_average", "clean_worst", "clean_rho", "robust_average", "robust_worst", "robust_rho")


@dataclass(frozen=True)
class Cell:
    """One number of a table: accuracies in [0, 1], rho a fraction.

    value: None when it does not exist, NaN when it is undefined. half_width (of the 95 % t interval) and
    sd are over seeds, None for a single seed and for the baseline's own rho. best: highest of its column.
    """

    value: float | None = None
    half_width: float | None = None
    sd: float | None = None
    best: bool = False

    @property
    def exists(self) -> bool:
        return self.value is not None and not math.isnan(self.value)


@dataclass(frozen=True)
class Row:
    """One entry: six cells in the order of COLUMNS."""

    method: str
    label: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    worst_class_clean: str
    worst_class_robust: str
    warnings: tuple[str, ...]
    record_ids: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows with the caption and the notes that make them readable alone. All texts are unescaped."""

    dataset: str
    model: str
    protocol: str
    protocol_version: str
    attack: str
    title: str
    caption: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    error: ErrorKind
    convention: Convention


def build_tables(
    records: Iterable[Record],
    *,
    attack: str | None = None,
    baseline: str = "trades",
    order: Sequence[str] = (),
    error: ErrorKind = "t95",
    convention: Convention = "signed",
) -> list[Table]:
    """One table per data set, network, protocol and evaluation attack of the records.

    The baseline's row comes first, then the methods in `order`, then the others by name. Only
    records that are done are averaged; what happened to the others is in the notes. `attack`
    keeps one attack. Without any attack in the records the robust columns stay empty. Raises
    UnknownNameError for an attack that no record was evaluated under.
    """
    check_convention(convention)
    if error not in get_args(ErrorKind):
        raise ConfigError(f"no kind of error called {error!r}.", hint="known: t95, sd")
    kept, disputed = distinct(list(records))
    settings: dict[Setting, list[Record]] = defaultdict(list)
    for record in kept:
        settings[setting_of(record)].append(record)
    attacks = {setting: _attacks(found) for setting, found in settings.items()}
    if attack is not None:
        known = {a.name for found in attacks.values() for a in found}
        if attack not in known:
            raise UnknownNameError("attack", attack, known, asked_by="the evaluations of these results")
    labels = setting_labels({setting: found[0] for setting, found in settings.items()})
    sides = SideCache()
    tables = []
    for setting in sorted(settings):
        chosen: list[Attack | None] = [a for a in attacks[setting] if attack in (None, a.name)]
        if not chosen and attack is None:
            chosen = [None]
        for one in chosen:
            entries = make_entries(settings[setting], one, sides)
            words = title(settings[setting][0], one, labels[setting])
            table = _table(words, settings[setting][0], one, entries, baseline, order, error, convention)
            copied = tuple(copies_note(record) for record in disputed if setting_of(record) == setting)
            tables.append(replace(table, notes=table.notes + copied))
    return tables


def _attacks(records: Iterable[Record]) -> list[Attack]:
    return sorted({attack for record in records if record.state == "done" for attack in attacks_of(record)})


def _table(
    words: str,
    first: Record,
    attack: Attack | None,
    entries: Sequence[Entry],
    baseline: str,
    order: Sequence[str],
    error: ErrorKind,
    convention: Convention,
) -> Table:
    base = _baseline(entries, baseline)
    place = {name: k for k, name in enumerate(order)}
    ranked = sorted(
        (entry for entry in entries if entry.seeds),
        key=lambda e: (
            e is not base,
            e.method != baseline,
            place.get(e.method, len(place)),
            e.method,
            e.label,
            e.key,
        ),
    )
    rows = _with_best([_row(entry, base, attack is not None, convention) for entry in ranked])
    return Table(
        dataset=first.dataset,
        model=first.model,
        protocol=first.protocol,
        protocol_version="" if is_per_method(first) else str(first.identity("protocol").get("version", "")),
        attack="" if attack is None else attack.name,
        title=words,
        caption=caption(first, ranked, attack, base, error, convention),
        notes=tuple(notes(entries, ranked, attack, base, baseline)),
        rows=tuple(rows),
        error=error,
        convention=convention,
    )


def _baseline(entries: Sequence[Entry], baseline: str) -> Entry | None:
    """The baseline's entry that rho compares with.

    Where there is a choice: without overrides, with the most seeds, finished last.
    """
    found = (entry for entry in entries if entry.method == baseline and entry.seeds)
    return max(found, key=lambda e: (not e.overrides, len(e.seeds), _finished(e)), default=None)


def _finished(entry: Entry) -> tuple[str, str]:
    return max(seed.record.finished for seed in entry.seeds.values()), entry.key


def _row(entry: Entry, base: Entry | None, attacked: bool, convention: Convention) -> Row:
    cells = _side_cells(entry, base, "clean", convention)
    cells += _side_cells(entry, base, "robust", convention) if attacked else [Cell(), Cell(), Cell()]
    warnings = tuple(dict.fromkeys(w for seed in entry.seeds.values() for w in seed.record.warnings))
    return Row(
        method=entry.method,
        label=entry.label,
        seeds=tuple(entry.seeds),
        cells=tuple(cells),
        worst_class_clean=entry.worst_class_name("clean"),
        worst_class_robust=entry.worst_class_name("robust"),
        warnings=warnings,
        record_ids=tuple(seed.record.id for seed in entry.seeds.values()),
    )


def _side_cells(entry: Entry, base: Entry | None, side: str, convention: Convention) -> list[Cell]:
    average, worst = _columns(entry, side, tuple(entry.seeds))
    return [_cell(t_interval(average)), _cell(t_interval(worst)), _rho_cell(entry, base, side, convention)]


def _rho_cell(entry: Entry, base: Entry | None, side: str, convention: Convention) -> Cell:
    """rho against the baseline: paired over common seeds; without any, of the means and without error."""
    if base is None:
        return Cell()
    common = tuple(seed for seed in entry.seeds if seed in base.seeds)
    if common:
        values = _columns(entry, side, common) + _columns(base, side, common)
    else:
        columns = (column for e in (entry, base) for column in _columns(e, side, tuple(e.seeds)))
        values = [[sum(column) / len(column)] for column in columns]
    interval = rho_interval(*values, convention=convention)
    return Cell(interval.mean) if entry is base else _cell(interval)


def _columns(entry: Entry, side: str, seeds: tuple[int, ...]) -> list[list[float]]:
    sides = [getattr(entry.seeds[seed], side) for seed in seeds]
    return [[item.average for item in sides], [item.worst for item in sides]]


def _cell(interval: Interval) -> Cell:
    return Cell(interval.mean, interval.half_width, interval.sd)


def _with_best(rows: Sequence[Row]) -> list[Row]:
    """The rows with the highest value of each column marked; nothing is best of one.

    Values that differ by rounding only, as the means of exchanged seeds do, are equally high.
    """
    rounding = 1e-12
    highest: Mapping[int, float] = {
        k: max(values)
        for k in range(len(COLUMNS))
        if len(values := [row.cells[k].value or 0.0 for row in rows if row.cells[k].exists]) > 1
    }
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=cell.exists and (cell.value or 0.0) >= highest.get(k, math.inf) - rounding)
                for k, cell in enumerate(row.cells)
            ),
        )
        for row in rows
    ]
