"""A run as its details show it: facts of its record, its cell and its provenance."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.page.markup import value_text
from fairbench.page.training_curves import TrainingCurve, training_curve
from fairbench.records.read import Record
from fairbench.records.run_folder import RunFolder


@dataclass(frozen=True)
class RunHistory:
    """A record with its training curve and its provenance. fault: why there is no provenance."""

    record: Record
    curve: TrainingCurve
    provenance: Mapping[str, Any]
    fault: str = ""

    @property
    def name(self) -> str:
        """The name of its folder, which `fairbench verify` takes."""
        return self.record.folder.name

    def facts(self) -> list[tuple[str, str]]:
        """The provenance as (name, text); the text is "" for what was not recorded."""
        origin = self.provenance
        commit = _text(origin.get("commit"))
        if commit.endswith("+"):
            commit = f"{commit[:-1]} with changes that were not committed"
        earlier = origin.get("earlier")
        attempts = len(earlier) + 1 if isinstance(earlier, list) else 1
        python = _text(origin.get("python"))
        system = [_text(origin.get("platform")), f"Python {python}" if python else ""]
        command = origin.get("command")
        return [
            ("device", _listed(origin.get("device"))),
            ("system", ", ".join(filter(None, system))),
            ("versions", _listed(origin.get("versions"), " ")),
            ("commit", commit),
            ("command", shlex.join(map(str, command)) if isinstance(command, list) else _text(command)),
            ("started", _text(origin.get("started")) + (f" (attempt {attempts})" if attempts > 1 else "")),
            ("finished", self.record.finished),
            (
                "data digest",
                _text(origin.get("data_digest") or self.record.cell.images.digest),
            ),
            ("plugin digest", _text(origin.get("plugin_source"))),
            ("method fingerprint", self.record.cell.code.fingerprint),
        ]


def read_run(record: Record) -> RunHistory:
    """The run of a record. Files that cannot be read are named in `fault` or left out, and raise nothing."""
    run = RunFolder(record.folder)
    try:
        curve = training_curve(run.curve_of(record))
    except OSError:
        curve = training_curve([])
    try:
        return RunHistory(record, curve, run.attempts()[-1])
    except RecordError:
        file = run.provenance_file
        return RunHistory(record, curve, {}, f"{file.name} is {'damaged' if file.exists() else 'missing'}")


def _text(value: object) -> str:
    return "" if value is None else value_text(value)


def _listed(value: object, between: str = ": ") -> str:
    """A mapping as "key: value, key: value"."""
    if not isinstance(value, dict):
        return _text(value)
    return ", ".join(f"{key}{between}{_text(item)}" for key, item in value.items())
