"""Check a printed table against the records that its stamp names.

Every outcomes file is read again, and its digest and counts are compared. The table is built again from
them, and its lines, heads too, must be those in the file in the same order. Captions may be edited.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairbench.core.errors import ConfigError, DataError, FairbenchError, RecordError
from fairbench.metrics.classwise import class_count, class_hits
from fairbench.records.read import AttackKey, Record
from fairbench.tables.evidence import outcomes_digest, settings_digest, used_evaluations
from fairbench.tables.formats import csv as csv_format
from fairbench.tables.formats import html, latex, markdown
from fairbench.tables.provenance import Stamp, made_from, read_evidence, read_stamps
from fairbench.tables.published_results import read_published, with_published
from fairbench.tables.request import TableRequest
from fairbench.tables.table import RunDigest, Table
from fairbench.tables.views import rebuild_table

_FORMATS = {".tex": latex, ".md": markdown, ".html": html, ".htm": html}
_PAGE = '<script type="application/json" id="data">'  # in every report


@dataclass(frozen=True)
class TableCheck:
    """The check of one table: how many lines are right, records and outcomes files read; and the faults."""

    title: str
    lines: int
    records: int
    outcomes: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Printed:
    """One table in a file: its stamp, its lines, and the faults that show without any record."""

    stamp: Stamp
    lines: list[str]
    faults: tuple[str, ...] = ()


def verify_file(path: Path, records: Sequence[Record]) -> tuple[list[TableCheck], bool]:
    """A check for each table in a file, and whether the file is a page of `fairbench report`.

    Raises ConfigError for a file that cannot be read, and the errors of `verify_tables`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from error
    suffix = path.suffix.lower()
    return verify_tables(text, suffix, records), is_report(text, suffix)


def verify_tables(text: str, suffix: str, records: Sequence[Record]) -> list[TableCheck]:
    """A check for each table in the text of a file that ends in `suffix`.

    Lines of tables without a stamp count as the next table's, or as the last one's. Raises ConfigError for
    another kind of file and for one without a stamp, RecordError for a damaged stamp.
    """
    if suffix == ".csv":
        tables = list(_csv_tables(text))
    elif is_report(text, suffix):  # only the table right before each stamp
        tables = [Printed(s, (html.printed_tables(s.before) or [[]])[-1]) for s in read_stamps(text)]
    elif suffix in _FORMATS:
        printed_lines = _FORMATS[suffix].printed_lines
        tables = [Printed(s, printed_lines(s.before + s.after)) for s in read_stamps(text)]
    else:
        raise ConfigError(
            f"tables in {suffix or 'such'} files cannot be verified.",
            hint="print one that names its records: fairbench table --format latex, markdown, html or csv",
        )
    if not tables:
        raise ConfigError(
            "the file does not name the records it was made from.",
            hint="keep the comment lines that begin with fairbench-table and fairbench-record",
        )
    return [_check(printed, suffix, records) for printed in tables]


def is_report(text: str, suffix: str) -> bool:
    """Whether the file is a page of `fairbench report`; only its tables with a stamp are checked."""
    return suffix in (".html", ".htm") and _PAGE in text


def _csv_tables(text: str) -> Iterator[Printed]:
    """The tables of a CSV file by title and options. Rows without options count as rows of the first."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        everything = list(reader)
    except csv.Error as error:
        raise RecordError(f"fairbench did not write this CSV file: {error}.") from error
    heads = list(reader.fieldnames or ())
    twice = tuple(f"the column {name!r} is there twice" for name in heads if heads.count(name) > 1)
    tables: dict[tuple[str, str], list[dict[str, str]]] = {}
    loose: list[dict[str, str]] = []
    for row in everything:
        if row.get("made_with"):
            tables.setdefault((row.get("table") or "", row["made_with"]), []).append(row)
        elif row.get("view") != "published":
            loose.append(row)
    for (_, made_with), rows in tables.items():
        try:
            request = dict(json.loads(made_with))
            items = [item for row in rows for item in json.loads(row["records"])]
            evidence = tuple(dict.fromkeys(map(read_evidence, items)))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"made_with or records is not what fairbench wrote: {made_with[:60]}"
            ) from error
        faults = twice
        if request.pop("made_from", None) != made_from(evidence):
            faults += ("its rows do not name the records that it was made from: are some missing?",)
        yield Printed(Stamp(request, evidence), [_canonical(row) for row in (*rows, *loose)], faults)
        loose = []


def _canonical(row: dict[str, str]) -> str:
    """A line of a CSV table without its stamp, its title, and the empty columns, which other tables have."""
    named = [(str(key), value) for key, value in row.items() if key not in ("table", "records", "made_with")]
    return ", ".join(f"{key}={value}" for key, value in sorted(named, key=str) if value)


def _check(printed: Printed, suffix: str, records: Sequence[Record]) -> TableCheck:
    faults = list(printed.faults)
    settings = printed.stamp.request.get("settings")
    by_id: dict[str, Record] = {}
    for item in printed.stamp.evidence:
        record = _record(item, settings, records)
        if record is None:
            faults.append(f"{item.folder} is not in the results folder")
        else:
            by_id[item.id] = record
    try:
        table = _rebuilt(printed.stamp, list(by_id.values()))
    except (FairbenchError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        return TableCheck("a table", 0, len(by_id), 0, (*faults, f"it cannot be made again: {reason}"))
    digests = {item.id: item.digest for item in table.evidence}
    for item in printed.stamp.evidence:
        if item.id in by_id and digests.get(item.id) != item.digest:
            faults.append(f"{item.folder} has other outcomes than when the table was made")
    outcomes = 0
    for record in by_id.values():
        read, wrong = _recount(record, _attack(record, settings))
        outcomes += read
        faults += wrong
    right, differences = _compared(printed.lines, _lines(table, suffix))
    return TableCheck(table.title, right, len(by_id), outcomes, (*faults, *differences))


def _compared(printed: list[str], expected: list[str]) -> tuple[int, list[str]]:
    """How many printed lines are expected, and a fault for each difference."""
    right = Counter(printed) & Counter(expected)
    faults = [f"differs from the records: {line}" for line in (Counter(printed) - right).elements()]
    faults += [f"missing: {line}" for line in (Counter(expected) - right).elements()]
    if not faults and printed != expected:
        faults.append("its lines are in another order than those of the records")
    return right.total(), faults


def _record(item: RunDigest, settings: object, records: Sequence[Record]) -> Record | None:
    """The done record with that id; of copies the one with these outcomes, else the one in that folder."""

    def fits(record: Record) -> tuple[bool, bool]:
        attack, epochs = _attack(record, settings), record.epochs_evaluated
        digests = [outcomes_digest(record, attack, chosen) for chosen in (epochs, epochs[-1:])]
        return item.digest in digests, record.folder.name == item.folder

    copies = [record for record in records if record.id == item.id and record.state == "done"]
    return max(copies, key=fits, default=None)


def _attack(record: Record, settings: object) -> AttackKey | None:
    """The attack of the record whose settings have that digest."""
    return next((attack for attack in record.attack_ids if settings_digest(attack) == settings), None)


def _rebuilt(stamp: Stamp, records: Sequence[Record]) -> Table:
    options = dict(stamp.request)
    attack, settings, sides, sources = (
        options.pop(name, None) for name in ("attack", "settings", "sides", "claims")
    )
    request = TableRequest.from_json(options)
    if not (isinstance(settings, str) and isinstance(sides, list) and isinstance(sources, str | None)):
        raise RecordError("fairbench did not write its attack, sides or claims.")
    table = rebuild_table(records, request, settings, sides)
    if table.attack != attack:
        raise RecordError(f"its attack is {table.attack or 'none'}, not {attack!r}.")
    return table if sources is None else with_published(table, read_published(sources), sources)


def _lines(table: Table, suffix: str) -> list[str]:
    """The lines of the table in a file that ends in `suffix`, read as those of any file."""
    if suffix == ".csv":
        return [_canonical(row) for row in csv.DictReader(io.StringIO(csv_format.document([table])))]
    lines: list[str] = _FORMATS[suffix].printed_lines(_FORMATS[suffix].document([table]))
    return lines


def _recount(record: Record, attack: AttackKey | None) -> tuple[int, list[str]]:
    """How many outcomes files were read, and a fault for each that is damaged or counts something else."""
    faults: list[str] = []
    used = used_evaluations(record, attack, record.epochs_evaluated)
    for evaluation in used:
        where = f"{record.folder.name}: {evaluation.attack} at epoch {evaluation.epoch}"
        try:
            rows: Any = record.outcomes(evaluation.attack, evaluation.epoch, evaluation.id)
            hits = class_hits(rows["correct"], rows["label"], record.num_classes)
            count = class_count(rows["label"], record.num_classes)
        except (RecordError, DataError) as error:
            faults.append(f"{where}: {error.message}")
            continue
        if evaluation.hits and not np.array_equal(hits, evaluation.hits):
            faults.append(f"{where}: the record counts other hits than its outcomes have")
        if record.class_count and not np.array_equal(count, record.class_count):
            faults.append(f"{where}: the record counts other images of the classes than its outcomes have")
    return len(used), faults
