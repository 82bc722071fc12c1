"""Stamps: comment lines below a printed table that name its options and its runs, for `fairbench verify`.

fairbench-table {"attack":"pgd-20","view":"main",...}      the options that make it again
fairbench-record {"digest":"1f0c...","folder":"trix...."}   one line for each run: the outcomes used of it
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.identity import canonical_json, digest
from fairbench.tables.table import RunDigest, Table

_TABLE, _RECORD = "fairbench-table", "fairbench-record"
_LINE = re.compile(rf"^[ \t]*(?:%[ \t]*)?({_TABLE}|{_RECORD}) (\{{.*\}})\s*?$", re.MULTILINE)


@dataclass(frozen=True)
class Stamp:
    """The stamp of one table in a file: the options that make the table, and the runs it was made from."""

    request: dict[str, Any]
    evidence: tuple[RunDigest, ...]


def stamp(table: Table) -> list[str]:
    """The stamp of a table as lines, without the signs of a comment; none for a table without evidence."""
    if not table.evidence:
        return []
    lines = [f"{_TABLE} {request_json(table)}"]
    return lines + [f"{_RECORD} {harmless(evidence_json(item))}" for item in table.evidence]


def request_json(table: Table, **more: str) -> str:
    """The options that make the table again, with its attack and sides, as one line of JSON."""
    place = {"attack": table.attack, "sides": [group for group, _ in table.groups]}
    return harmless({**dict(table.request), **place, **more}) if table.request else ""


def harmless(value: Any) -> str:
    """JSON that cannot end a comment or open a tag, whatever names are in it."""
    text = canonical_json(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


def made_from(evidence: Iterable[RunDigest]) -> str:
    """A hash of the records and outcomes in evidence; order and folders do not change it."""
    return digest(sorted({(item.id, item.digest) for item in evidence}))


@dataclass(frozen=True)
class Stamped:
    """A stamp with the text before its first line, and the text between its lines.

    The text after the last stamp of a file also counts as `after`.
    """

    stamp: Stamp
    before: str
    after: str


def read_stamps(text: str) -> list[Stamped]:
    """The stamps in a file, in order. Raises RecordError for one that cannot be read."""
    stamps: list[Stamped] = []
    end = 0
    for line in _LINE.finditer(text):
        kind, content = line.groups()
        between, end = text[end : line.start()], line.end()
        try:
            value = dict(json.loads(content))
            if kind == _TABLE:
                stamps.append(Stamped(Stamp(value, ()), between, ""))
            else:
                last = stamps[-1]
                evidence = (*last.stamp.evidence, read_evidence(value))
                stamps[-1] = Stamped(Stamp(last.stamp.request, evidence), last.before, last.after + between)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RecordError(f"the line {content[:60]!r} was not written by fairbench.") from error
    if stamps:
        stamps[-1] = replace(stamps[-1], after=stamps[-1].after + text[end:])
    return stamps


def evidence_json(item: RunDigest) -> dict[str, str]:
    """The run as JSON values, for `read_evidence`."""
    return {"folder": item.folder, "id": item.id, "digest": item.digest}


def read_evidence(value: Mapping[str, Any]) -> RunDigest:
    """The run that `evidence_json` wrote. Raises KeyError or TypeError for anything else."""
    return RunDigest(str(value["folder"]), str(value["id"]), str(value["digest"]))
