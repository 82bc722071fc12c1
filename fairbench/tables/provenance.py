"""What a printed table says of where it comes from: lines in a comment that `fairbench verify` reads back.

fairbench-table {"attack":"pgd-20","view":"main",...}      the options that make it again
fairbench-record {"digest":"1f0c...","folder":"trix...."}   one line for each run, and what of it was used
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
    """What one table in a file says of itself."""

    request: dict[str, Any]
    evidence: tuple[RunDigest, ...]


def stamp(table: Table) -> list[str]:
    """The lines of a table, without the signs of a comment; none for a table without evidence."""
    if not table.evidence:
        return []
    lines = [f"{_TABLE} {request_json(table)}"]
    return lines + [f"{_RECORD} {harmless(evidence_json(item))}" for item in table.evidence]


def request_json(table: Table, **more: str) -> str:
    """The options that make the table again, with its attack and sides, as one line of JSON."""
    place = {"attack": table.attack, "sides": [group for group, _ in table.groups]}
    return harmless({**dict(table.request), **place, **more}) if table.request else ""


def harmless(value: Any) -> str:
    """JSON that ends no comment and opens no tag, whatever the names in it."""
    text = canonical_json(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


def made_from(evidence: Iterable[RunDigest]) -> str:
    """A hash of the records and outcomes in evidence, in whatever order and folders."""
    return digest(sorted({(item.id, item.digest) for item in evidence}))


@dataclass(frozen=True)
class Stamped:
    """A stamp with the text before it, since the stamp before, and the text of no other stamp after it."""

    stamp: Stamp
    before: str
    after: str


def read_stamps(text: str) -> list[Stamped]:
    """The stamps in a file, in order. Raises RecordError for one that cannot be read."""
    found: list[Stamped] = []
    place = 0
    for line in _LINE.finditer(text):
        kind, content = line.groups()
        between, place = text[place : line.start()], line.end()
        try:
            value = dict(json.loads(content))
            if kind == _TABLE:
                found.append(Stamped(Stamp(value, ()), between, ""))
            else:
                last, item = found[-1], read_evidence(value)
                evidence = (*last.stamp.evidence, item)
                found[-1] = Stamped(Stamp(last.stamp.request, evidence), last.before, last.after + between)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RecordError(f"the line {content[:60]!r} is not one that fairbench wrote.") from error
    if found:
        found[-1] = replace(found[-1], after=found[-1].after + text[place:])
    return found


def evidence_json(item: RunDigest) -> dict[str, str]:
    """What `read_evidence` reads."""
    return {"folder": item.folder, "id": item.id, "digest": item.digest}


def read_evidence(value: Mapping[str, Any]) -> RunDigest:
    """Raises KeyError or TypeError for what `evidence_json` did not write."""
    return RunDigest(str(value["folder"]), str(value["id"]), str(value["digest"]))
