"""Hold a printed table against the records that it says it was made from.

Nothing printed is believed: every outcomes file is read again and its digest and counts compared, the
table is rebuilt from them, and each row of numbers must be the one in the file. Captions may be edited.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairbench.core.errors import ConfigError, FairbenchError, RecordError
from fairbench.records.outcomes import class_hits
from fairbench.records.read import CLEAN, Record
from fairbench.reporting.claims import read_claims, with_claims
from fairbench.reporting.formats import csv as csv_format
from fairbench.reporting.formats import html, latex, markdown
from fairbench.reporting.stamp import Stamp, read_stamps
from fairbench.reporting.table import Evidence, Table
from fairbench.reporting.views import Request, build_tables

_FORMATS = {".tex": latex, ".md": markdown, ".html": html, ".htm": html}


@dataclass(frozen=True)
class TableCheck:
    """One table: `rows` of it are right, `outcomes` files were read, `faults` are one line each."""

    title: str
    rows: int
    records: int
    outcomes: int
    faults: tuple[str, ...]


def verify_tables(text: str, suffix: str, records: Sequence[Record]) -> list[TableCheck]:
    """A check for each table in the text of a file that ends in `suffix`.

    Raises ConfigError for another kind of file and for one without a stamp, RecordError for a damaged stamp.
    """
    if suffix == ".csv":
        found = list(_csv_parts(text))
    elif suffix in _FORMATS:
        found = list(_parts(text, suffix))
    else:
        raise ConfigError(
            f"tables in {suffix or 'such'} files cannot be verified.",
            hint="print one that names its records: fairbench table --format latex, markdown, html or csv",
        )
    if not found:
        raise ConfigError(
            "the file does not say which records it was made from.",
            hint="keep the comment lines that begin with fairbench-table and fairbench-record",
        )
    by_folder = {(record.folder.name, record.id): record for record in records}
    return [_check(stamp, rows, suffix, by_folder) for stamp, rows in found]


def _parts(text: str, suffix: str) -> Iterator[tuple[Stamp, list[str]]]:
    """Each stamp with the rows printed before it."""
    stamps = read_stamps(text)
    pieces = text.split("fairbench-table {")
    for stamp, piece in zip(stamps, pieces, strict=False):
        yield stamp, _FORMATS[suffix].printed_rows(piece)


def _csv_parts(text: str) -> Iterator[tuple[Stamp, list[str]]]:
    parts: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        if row.get("made_with"):
            parts.setdefault((row["table"], row["made_with"]), []).append(row)
    for (_, made_with), rows in parts.items():
        evidence = dict.fromkeys(
            Evidence(folder, folder.rpartition(".")[2], digest)
            for row in rows
            for folder, digest in zip(row["records"].split(), row["digests"].split(), strict=False)
        )
        try:
            request = dict(json.loads(made_with))
        except ValueError as error:
            raise RecordError(f"made_with is not what fairbench wrote: {made_with[:60]}") from error
        yield Stamp(request, tuple(evidence)), [_canonical(row) for row in rows]


def _canonical(row: dict[str, str]) -> str:
    """A line of a CSV table without the columns that other tables in the file brought along."""
    return ", ".join(f"{key}={value}" for key, value in sorted(row.items()) if value)


def _check(
    stamp: Stamp, printed: list[str], suffix: str, by_folder: dict[tuple[str, str], Record]
) -> TableCheck:
    faults: list[str] = []
    records, outcomes = [], 0
    for item in stamp.evidence:
        record = by_folder.get((item.folder, item.id))
        if record is None:
            faults.append(f"{item.folder} is not in the results folder")
            continue
        records.append(record)
    try:
        table = _rebuilt(stamp, records)
    except FairbenchError as error:
        return TableCheck("", 0, len(records), 0, (*faults, f"it cannot be made again: {error.message}"))
    now = {item.folder: item.digest for item in table.evidence}
    for item in stamp.evidence:
        if now.get(item.folder, item.digest) != item.digest:
            faults.append(f"{item.folder} has other outcomes than when the table was made")
    for record in records:
        read, wrong = _recount(record, table.attack)
        outcomes += read
        faults += wrong
    expected = _rows(table, suffix)
    for row in printed:
        if row not in expected:
            faults.append(f"not as the records say: {row}")
    for row in expected:
        if row not in printed:
            faults.append(f"missing, as the records say: {row}")
    right = sum(row in expected for row in printed)
    return TableCheck(table.title, right, len(records), outcomes, tuple(faults))


def _rebuilt(stamp: Stamp, records: Sequence[Record]) -> Table:
    asked = dict(stamp.request)
    attack, sides, claims = (asked.pop(name, None) for name in ("attack", "sides", "claims"))
    request = Request.from_json(asked)
    for table in build_tables(records, request, attack or None):
        if (table.attack or "") == (attack or "") and [group for group, _ in table.groups] == sides:
            return table if claims is None else with_claims(table, read_claims(claims), claims)
    raise RecordError("no table of these records has its attack and columns")


def _rows(table: Table, suffix: str) -> list[str]:
    if suffix == ".csv":
        return [_canonical(row) for row in csv.DictReader(io.StringIO(csv_format.document([table])))]
    rows: list[str] = _FORMATS[suffix].rows(table)
    return rows


def _recount(record: Record, attack: str) -> tuple[int, list[str]]:
    """How many outcomes files were read, and what is wrong with them."""
    faults: list[str] = []
    used = [e for e in record.evaluations if e.attack in (CLEAN, attack)]
    for evaluation in used:
        where = f"{record.folder.name}: {evaluation.attack} at epoch {evaluation.epoch}"
        try:
            rows: Any = record.outcomes(evaluation.attack, evaluation.epoch, evaluation.id)
        except RecordError as error:
            faults.append(f"{where}: {error.message}")
            continue
        if evaluation.hits and not np.array_equal(class_hits(rows, record.num_classes), evaluation.hits):
            faults.append(f"{where}: the record counts other hits than its outcomes have")
    return len(used), faults
