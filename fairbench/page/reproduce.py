"""The commands that make the runs of a page again."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from fairbench.core.identity import canonical_json
from fairbench.records.read import Record
from fairbench.tables.groups import method_overrides, setting_overrides


def commands(records: Sequence[Record], results: str, registry_files: Sequence[str] = ()) -> Iterator[str]:
    """One `fairbench run` for each group of runs that differ in method and seed only."""
    where = [part for file in registry_files for part in ("--registry", file)]
    where += ["--results", results] if results != "results" else []
    for (dataset, model, protocol, attacks, settings, seeds), methods in _groups(records).items():
        words = ["fairbench", "run", "--methods", ",".join(methods), "--datasets", dataset, "--models", model]
        words += ["--protocol", protocol, "--seeds", seeds]
        words += ["--attacks", attacks] if attacks else []
        words += [part for setting in settings for part in ("--set", setting)]
        yield shlex.join([*words, *where])


Place = tuple[str, str, str, str, tuple[str, ...]]
Group = tuple[str, str, str, str, tuple[str, ...], str]


def _groups(records: Sequence[Record]) -> dict[Group, list[str]]:
    seeds: dict[tuple[Place, str], set[int]] = defaultdict(set)
    for record in records:
        attacks = ",".join(map(_attack, record.cell.get("evaluation") or ()))
        own = [
            f"methods.{record.method}.{k}={_value(v)}" for k, v in sorted(method_overrides(record).items())
        ]
        shared = [f"protocol.{k}={_value(v)}" for k, v in sorted(setting_overrides(record).items())]
        place = (record.dataset, record.model, record.protocol, attacks, (*shared, *own))
        seeds[(place, record.method)].add(record.seed)
    found: dict[Group, list[str]] = defaultdict(list)
    for (place, method), numbers in seeds.items():
        found[(*place, seed_range(numbers))].append(method)
    return dict(sorted((group, sorted(methods)) for group, methods in found.items()))


def seed_range(seeds: set[int]) -> str:
    """The seeds as `--seeds` takes them: "0..4", or "0,2"."""
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}..{ordered[-1]}"
    return ",".join(map(str, ordered))


def _attack(settings: dict[str, Any]) -> str:
    at = settings.get("at", "selected")
    return str(settings.get("name")) + ("" if at == "selected" else f"@{at}")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
