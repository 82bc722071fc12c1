"""A run as a reader checks it: what its record, its cell and its provenance say of where it comes from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.files import read_json
from fairbench.page.curves import Curve, curve_of
from fairbench.records.curves import read_epochs
from fairbench.records.read import Record

FILE = "provenance.json"


@dataclass(frozen=True)
class RunHistory:
    """A record with its curve and its provenance; `fault` says why there is none."""

    record: Record
    curve: Curve
    provenance: Mapping[str, Any]
    fault: str = ""

    @property
    def name(self) -> str:
        """The name of its folder, which `fairbench verify` takes."""
        return self.record.folder.name

    def told(self) -> list[tuple[str, str]]:
        """What its provenance says, as (name, text); nothing for what it does not say."""
        found = self.provenance
        commit = _text(found.get("commit"))
        if commit.endswith("+"):
            commit = f"{commit[:-1]} with changes that were not committed"
        earlier = found.get("earlier")
        attempts = len(earlier) + 1 if isinstance(earlier, list) else 1
        identity = self.record.identity("method")
        return [
            ("device", _listed(found.get("device"))),
            ("system", ", ".join(filter(None, [_text(found.get("platform")), self._python()]))),
            ("versions", _listed(found.get("versions"), " ")),
            ("commit", commit),
            ("command", _command(found.get("command"))),
            ("started", _text(found.get("started")) + (f" (attempt {attempts})" if attempts > 1 else "")),
            ("finished", self.record.finished),
            ("data digest", _text(found.get("data_digest") or self.record.identity("dataset").get("digest"))),
            ("plugin digest", _text(found.get("plugin_source"))),
            ("method fingerprint", _text(identity.get("fingerprint"))),
        ]

    def _python(self) -> str:
        return f"Python {version}" if (version := _text(self.provenance.get("python"))) else ""


def read_run(record: Record) -> RunHistory:
    """The run of a record. What cannot be read is said, never raised: a page is of many runs."""
    curve = _curve(record)
    try:
        value = read_json(record.folder / FILE)
    except RecordError:
        missing = not (record.folder / FILE).exists()
        return RunHistory(record, curve, {}, f"{FILE} is {'missing' if missing else 'damaged'}")
    if not isinstance(value, dict):
        return RunHistory(record, curve, {}, f"{FILE} is damaged")
    return RunHistory(record, curve, value)


def _curve(record: Record) -> Curve:
    try:
        return curve_of(read_epochs(record.folder))
    except OSError:
        return curve_of([])


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _listed(value: object, between: str = ": ") -> str:
    if not isinstance(value, dict):
        return _text(value)
    return ", ".join(f"{key}{between}{_text(item)}" for key, item in value.items())


def _command(value: object) -> str:
    if isinstance(value, list):
        import shlex

        return shlex.join(str(word) for word in value)
    return _text(value)
