"""What a printed table says of where it comes from: lines in a comment that `fairbench verify` reads back.

fairbench-table {"attack":"pgd-20","view":"main",...}      the options that make it again
fairbench-record {"digest":"1f0c...","folder":"trix...."}   one line for each run, and what of it was used
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.identity import canonical_json
from fairbench.reporting.table import Evidence, Table

_TABLE, _RECORD = "fairbench-table", "fairbench-record"
_LINE = re.compile(rf"({_TABLE}|{_RECORD}) (\{{.*\}})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Stamp:
    """What one table in a file says of itself."""

    request: dict[str, Any]
    evidence: tuple[Evidence, ...]


def stamp(table: Table) -> list[str]:
    """The lines of a table, without the signs of a comment; none for a table without evidence."""
    if not table.evidence:
        return []
    lines = [f"{_TABLE} {request_json(table)}"]
    return lines + [
        f"{_RECORD} {harmless({'folder': item.folder, 'id': item.id, 'digest': item.digest})}"
        for item in table.evidence
    ]


def request_json(table: Table) -> str:
    """The options that make the table again, with its attack and sides, as one line of JSON."""
    place = {"attack": table.attack, "sides": [group for group, _ in table.groups]}
    return harmless({**dict(table.request), **place}) if table.request else ""


def harmless(value: Any) -> str:
    """JSON that ends no comment and opens no tag, whatever the names in it."""
    text = canonical_json(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


def read_stamps(text: str) -> list[Stamp]:
    """The stamps in a file, in order. Raises RecordError for one that cannot be read."""
    found: list[Stamp] = []
    for kind, content in _LINE.findall(text):
        try:
            value = json.loads(content)
            if kind == _TABLE:
                found.append(Stamp(dict(value), ()))
            else:
                item = Evidence(str(value["folder"]), str(value["id"]), str(value["digest"]))
                found[-1] = Stamp(found[-1].request, (*found[-1].evidence, item))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RecordError(f"the line {content[:60]!r} is not one that fairbench wrote.") from error
    return found
