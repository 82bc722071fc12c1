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
    """The stamp of one table in a file: the options that make the table, and the runs it was made from.

    before: the text before its first line. after: the text between its lines, and after the last stamp of a
    file the text to its end.
    """

    request: dict[str, Any]
    evidence: tuple[RunDigest, ...] = ()
    before: str = ""
    after: str = ""


def stamp(table: Table) -> list[str]:
    """The stamp of a table as lines, without the signs of a comment; none for a table without evidence."""
    if not table.evidence:
        return []
    lines = [f"{_TABLE} {request_json(table)}"]
    return lines + [f"{_RECORD} {harmless(item._asdict())}" for item in table.evidence]


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


def read_stamps(text: str) -> list[Stamp]:
    """The stamps in a file, in order. Raises RecordError for one that cannot be read."""
    stamps: list[Stamp] = []
    end = 0
    for line in _LINE.finditer(text):
        kind, content = line.groups()
        between, end = text[end : line.start()], line.end()
        try:
            value = dict(json.loads(content))
            if kind == _TABLE:
                stamps.append(Stamp(value, before=between))
            else:
                last, run = stamps[-1], read_evidence(value)
                stamps[-1] = replace(last, evidence=(*last.evidence, run), after=last.after + between)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RecordError(f"the line {content[:60]!r} was not written by fairbench.") from error
    if stamps:
        stamps[-1] = replace(stamps[-1], after=stamps[-1].after + text[end:])
    return stamps


def read_evidence(value: Mapping[str, Any]) -> RunDigest:
    """The run that a stamp names. Raises KeyError or TypeError for anything else."""
    return RunDigest(*(str(value[name]) for name in RunDigest._fields))
